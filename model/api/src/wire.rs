//! Frames on the socket: four bytes of length (little-endian), then that much JSON.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The longest frame that is accepted, in bytes.
pub const LONGEST: usize = 256 << 20;

/// Writes one value as a frame.
///
/// # Errors
/// The socket's, or `InvalidData` when the value is longer than [`LONGEST`].
pub fn write<T: Serialize>(out: &mut impl Write, value: &T) -> io::Result<()> {
    out.write_all(&encode(value)?)?;
    out.flush()
}

/// Reads one value; `None` at a clean end of the stream.
///
/// # Errors
/// The socket's, or `InvalidData` for a frame that is too long or not the expected JSON.
pub fn read<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut head = [0; 4];
    match input.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut body = vec![0; checked_len(head)?];
    input.read_exact(&mut body)?;
    decode(&body).map(Some)
}

/// As [`write()`], on a tokio stream.
///
/// # Errors
/// As [`write()`].
pub async fn write_async<T: Serialize>(out: &mut (impl AsyncWrite + Unpin), value: &T) -> io::Result<()> {
    out.write_all(&encode(value)?).await?;
    out.flush().await
}

/// As [`read()`], on a tokio stream.
///
/// # Errors
/// As [`read()`].
pub async fn read_async<T: DeserializeOwned>(input: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<T>> {
    let mut head = [0; 4];
    match input.read_exact(&mut head).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let mut body = vec![0; checked_len(head)?];
    input.read_exact(&mut body).await?;
    decode(&body).map(Some)
}

fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, value)?;
    let length = bytes.len() - 4;
    if length > LONGEST {
        return Err(invalid(format!(
            "a frame of {length} bytes; at most {LONGEST} are allowed"
        )));
    }
    bytes[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    Ok(bytes)
}

fn checked_len(head: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(head) as usize;
    if length > LONGEST {
        return Err(invalid(format!(
            "a frame of {length} bytes; at most {LONGEST} are allowed"
        )));
    }
    Ok(length)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|error| invalid(format!("a frame that is not understood: {error}")))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

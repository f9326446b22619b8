//! The frames on the socket: a length of four bytes (little-endian), followed by JSON of that length.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The longest frame that is accepted, in bytes.
pub const LONGEST: usize = 256 << 20;

/// Writes one value as a frame.
///
/// # Errors
/// Any I/O error of the socket, or `InvalidData` if the value is longer than [`LONGEST`].
pub fn write<T: Serialize>(out: &mut impl Write, value: &T) -> io::Result<()> {
    out.write_all(&encode(value)?)?;
    out.flush()
}

/// Writes the body of one frame, which need not be JSON.
///
/// # Errors
/// The errors of [`write()`].
pub fn write_frame(out: &mut impl Write, body: &[u8]) -> io::Result<()> {
    out.write_all(&length_of(body.len())?)?;
    out.write_all(body)?;
    out.flush()
}

/// Reads one value. Returns `None` if the stream ended between two frames.
///
/// # Errors
/// The errors of [`read_frame`] and [`decode`].
pub fn read<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    read_frame(input)?.map(|body| decode(&body)).transpose()
}

/// Reads the body of one frame. Returns `None` if the stream ended between two frames. It allocates memory for the
/// bytes that arrive, not for the length that the frame announces.
///
/// # Errors
/// Any I/O error of the socket, `UnexpectedEof` if the stream ends within a frame, or `InvalidData` if the frame is too
/// long. The stream cannot be read further after an error.
pub fn read_frame(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::with_capacity(4);
    input.by_ref().take(4).read_to_end(&mut head)?;
    let Some(length) = checked_len(&head, LONGEST)? else {
        return Ok(None);
    };
    let mut body = Vec::new();
    input.by_ref().take(length as u64).read_to_end(&mut body)?;
    whole(body, length).map(Some)
}

/// Writes one value as a frame on a tokio stream.
///
/// # Errors
/// The errors of [`write()`].
pub async fn write_async<T: Serialize>(out: &mut (impl AsyncWrite + Unpin), value: &T) -> io::Result<()> {
    out.write_all(&encode(value)?).await?;
    out.flush().await
}

/// Reads one value from a tokio stream. Returns `None` if the stream ended between two frames.
///
/// # Errors
/// The errors of [`read()`].
pub async fn read_async<T: DeserializeOwned>(input: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<T>> {
    read_within(input, LONGEST).await
}

/// Reads one value of at most `longest` bytes from a tokio stream, for peers that are not trusted yet (law L9).
///
/// # Errors
/// The errors of [`read()`], with another limit.
pub async fn read_within<T: DeserializeOwned>(
    input: &mut (impl AsyncRead + Unpin),
    longest: usize,
) -> io::Result<Option<T>> {
    let mut head = Vec::with_capacity(4);
    (&mut *input).take(4).read_to_end(&mut head).await?;
    let Some(length) = checked_len(&head, longest)? else {
        return Ok(None);
    };
    let mut body = Vec::new();
    (&mut *input).take(length as u64).read_to_end(&mut body).await?;
    decode(&whole(body, length)?).map(Some)
}

fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, value)?;
    let length = length_of(bytes.len() - 4)?;
    bytes[..4].copy_from_slice(&length);
    Ok(bytes)
}

/// Returns the first four bytes of a frame whose body has `length` bytes.
fn length_of(length: usize) -> io::Result<[u8; 4]> {
    if length > LONGEST {
        return Err(too_long(length, LONGEST));
    }
    Ok(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes())
}

/// Returns the length of a frame from its first four bytes, or `None` if the stream ended before them.
fn checked_len(head: &[u8], longest: usize) -> io::Result<Option<usize>> {
    if head.is_empty() {
        return Ok(None);
    }
    let Ok(bytes) = <[u8; 4]>::try_from(head) else {
        return Err(cut_off(4, head.len()));
    };
    match u32::from_le_bytes(bytes) as usize {
        length if length > longest => Err(too_long(length, longest)),
        length => Ok(Some(length)),
    }
}

fn whole(body: Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    if body.len() < length {
        return Err(cut_off(length, body.len()));
    }
    Ok(body)
}

/// Decodes the body of a frame.
///
/// # Errors
/// `InvalidData` if it is not the expected JSON, with the place and what was expected there.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|error| invalid(format!("a frame cannot be parsed: {error}")))
}

fn cut_off(expected: usize, found: usize) -> io::Error {
    let message = format!("the stream ended after {found} of {expected} bytes");
    io::Error::new(io::ErrorKind::UnexpectedEof, message)
}

fn too_long(length: usize, longest: usize) -> io::Error {
    invalid(format!(
        "a frame has {length} bytes; at most {longest} are allowed"
    ))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

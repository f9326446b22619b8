//! What the process that reads Parquet files does (`process.rs`): it reads one file after another, and writes each row or
//! picture as a frame.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use demask_api::{limits, wire};

use super::file::{self, RowsHere, WantedColumns};
use super::process::{ParquetFrame, ParquetJob, over_memory};
use crate::formats::columns::fields::Fields;
use crate::formats::columns::stored_picture::StoredPicture;
use crate::formats::row::ReadError;
use crate::formats::tables;

/// The most bytes of a row, as of a line of JSON.
const MOST_ROW: usize = 64 << 20;
/// The words of an allocation that failed and was reported, as unpacked gzip does.
const NO_MEMORY: &str = "out of memory";

/// Does the jobs that arrive until their stream ends. The registered program calls it, within its memory limit.
///
/// # Errors
/// Any error of the streams.
pub fn serve(jobs: &mut impl Read, frames: &mut impl Write) -> io::Result<()> {
    while let Some(job) = wire::read::<ParquetJob>(jobs)? {
        match job {
            ParquetJob::Source { file, named, whole } => {
                let wanted = WantedColumns { named, whole };
                write_rows(file::open(&path_of(file), &wanted), frames)?;
            }
            ParquetJob::Table { file } => write_rows(tables::parquet::open(&path_of(file)), frames)?,
            ParquetJob::Picture { place } => write(picture(&place), frames)?,
        }
    }
    Ok(())
}

/// Writes each row as soon as it is read: the next one may be the process's end.
fn write_rows(rows: Result<RowsHere, ReadError>, frames: &mut impl Write) -> io::Result<()> {
    let rows = match rows {
        Ok(rows) => rows,
        Err(ReadError::Io { source, .. }) => return write(failed(source.to_string()), frames),
        Err(ReadError::Format { message, .. }) => return write(failed(message), frames),
    };
    write(ParquetFrame::Opened, frames)?;
    for row in rows {
        match row.and_then(within_limits) {
            Ok(bytes) => write(ParquetFrame::Row(bytes), frames)?,
            Err(why) => return write(failed(why), frames),
        }
    }
    write(ParquetFrame::End, frames)
}

/// Serialises a row, unless it is beyond the limits of one (law L9).
fn within_limits(row: Fields) -> Result<Vec<u8>, String> {
    let values = row.count();
    if values > limits::MOST_ROW_VALUES {
        let most = limits::MOST_ROW_VALUES;
        return Err(format!("it has {values} values; at most {most} are allowed"));
    }
    let bytes = row.to_bytes();
    match bytes.len() > MOST_ROW {
        true => Err(format!(
            "it has {} bytes; at most {MOST_ROW} are allowed",
            bytes.len()
        )),
        false => Ok(bytes),
    }
}

fn picture(place: &[u8]) -> ParquetFrame {
    let read = match StoredPicture::from_bytes(place) {
        Some(picture) => picture.bytes_here(),
        None => Err("the place of a picture was expected".to_owned()),
    };
    match read {
        Ok(Some(bytes)) if bytes.len() >= wire::LONGEST => failed(format!(
            "it has {} bytes; fewer than {} are allowed",
            bytes.len(),
            wire::LONGEST
        )),
        Ok(Some(bytes)) => ParquetFrame::Picture(bytes),
        Ok(None) => ParquetFrame::NoPicture,
        Err(why) => failed(why),
    }
}

fn path_of(raw: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(raw))
}

fn failed(why: String) -> ParquetFrame {
    ParquetFrame::Failed(match why.contains(NO_MEMORY) {
        true => over_memory(),
        false => why,
    })
}

fn write(frame: ParquetFrame, frames: &mut impl Write) -> io::Result<()> {
    wire::write_frame(frames, &frame.into_body())
}

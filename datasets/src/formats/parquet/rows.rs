//! The rows of one file, from the process that reads it, or from this one where no program is registered.

use std::path::Path;

use super::file::RowsHere;
use super::process::{ParquetFrame, ParquetJob, ParquetProcess, UNEXPECTED};
use crate::formats::columns::fields::Fields;
use crate::formats::row::ReadError;

/// The rows of a file, up to the first that cannot be read. The process ends when this is dropped.
pub(in crate::formats) enum FileRows {
    /// In a process of their own.
    Apart(ParquetProcess),
    /// In this process.
    Here(RowsHere),
}

impl FileRows {
    /// Opens a file for a job, or with `here` where no program is registered.
    ///
    /// # Errors
    /// An error if the file cannot be opened, is not Parquet or has no column that is wanted.
    pub(in crate::formats) fn of(
        path: &Path,
        job: &ParquetJob,
        here: impl FnOnce() -> Result<RowsHere, ReadError>,
    ) -> Result<Self, ReadError> {
        match ParquetProcess::start() {
            None => here().map(Self::Here),
            Some(process) => Self::apart(process, job, path),
        }
    }

    fn apart(
        process: Result<ParquetProcess, String>,
        job: &ParquetJob,
        path: &Path,
    ) -> Result<Self, ReadError> {
        let opened = process.and_then(|mut process| {
            process.ask(job)?;
            match process.frame()? {
                ParquetFrame::Opened => Ok(process),
                ParquetFrame::Failed(why) => Err(why),
                _ => Err(UNEXPECTED.to_owned()),
            }
        });
        opened
            .map(Self::Apart)
            .map_err(|why| ReadError::format(path, why))
    }
}

impl Iterator for FileRows {
    type Item = Result<Fields, String>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Here(rows) => rows.next(),
            Self::Apart(process) => match process.frame() {
                Ok(ParquetFrame::Row(bytes)) => Some(Fields::from_bytes(&bytes)),
                Ok(ParquetFrame::End) => None,
                Ok(ParquetFrame::Failed(why)) | Err(why) => Some(Err(why)),
                Ok(_) => Some(Err(UNEXPECTED.to_owned())),
            },
        }
    }
}

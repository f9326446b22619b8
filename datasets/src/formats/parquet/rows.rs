//! The rows of one file, from the process that reads it, or from this one where no program is registered.

use std::path::Path;

use super::file::{self, RowsHere, WantedColumns};
use super::process::{ParquetFrame, ParquetJob, ParquetProcess, raw};
use crate::formats::columns::fields::Fields;
use crate::formats::row::ReadError;
use crate::formats::tables;

/// The rows of a file, up to the first that cannot be read. The process ends when this is dropped.
pub(in crate::formats) enum FileRows {
    /// In a process of their own.
    Apart(ParquetProcess),
    /// In this process.
    Here(RowsHere),
}

impl FileRows {
    /// Opens the wanted columns of a source's file.
    ///
    /// # Errors
    /// An error if the file cannot be opened, is not Parquet or has no such column.
    pub(super) fn of_source(path: &Path, wanted: WantedColumns) -> Result<Self, ReadError> {
        match ParquetProcess::start() {
            None => file::open(path, &wanted).map(Self::Here),
            Some(process) => {
                let file = raw(path);
                Self::apart(process, &ParquetJob::Source { file, wanted }, path)
            }
        }
    }

    /// Opens a benchmark's table; its pictures stay in the file.
    ///
    /// # Errors
    /// An error if the file cannot be opened or is not Parquet.
    pub(in crate::formats) fn of_table(path: &Path) -> Result<Self, ReadError> {
        match ParquetProcess::start() {
            None => tables::parquet::open(path).map(Self::Here),
            Some(process) => Self::apart(process, &ParquetJob::Table { file: raw(path) }, path),
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

/// The reason of a frame that was not due.
pub(super) const UNEXPECTED: &str = "the reader process did not answer what it was asked";

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

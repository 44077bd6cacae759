//! Files that jobs read: kept, listed, handed out again, removed.

use std::path::PathBuf;

use super::intake::{Taken, disk};
use super::{FileIntake, FineTuningError, MAX_FILE_BYTES};
use crate::service::App;
use crate::service::app::clipped;
use crate::service::keys::now;
use crate::store::FileRow;

/// The one purpose that a file can have.
const PURPOSE: &str = "fine-tune";
/// Longest name, in characters.
const MAX_NAME: usize = 255;

/// An uploaded file, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Its id.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// `fine-tune`.
    pub purpose: String,
    /// Which rows it holds: `prompts`, `pairs` or `texts`.
    pub kind: String,
    /// Its size.
    pub bytes: i64,
    /// Its rows.
    pub rows: i64,
    /// Seconds since 1970.
    pub created_at: i64,
}

/// In which order files are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOrder {
    /// Newest first.
    Descending,
    /// Oldest first.
    Ascending,
}

impl From<FileRow> for FileInfo {
    fn from(row: FileRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            purpose: row.purpose,
            kind: row.kind,
            bytes: row.bytes,
            rows: row.line_count,
            created_at: row.created_at,
        }
    }
}

impl App {
    /// Begins to take a file in.
    ///
    /// # Errors
    /// Jobs are switched off, or the disk does not take it.
    pub fn begin_file(&self) -> Result<FileIntake, FineTuningError> {
        let (tuning, _) = self.fine_tuning()?;
        FileIntake::begin(tuning.files(), MAX_FILE_BYTES)
    }

    /// Keeps a file that came in whole.
    ///
    /// # Errors
    /// Its rows cannot be used, each with its line number, or it cannot be kept.
    pub async fn keep_file(
        &self,
        intake: FileIntake,
        name: &str,
        purpose: &str,
    ) -> Result<FileInfo, FineTuningError> {
        let (_, store) = self.fine_tuning()?;
        if purpose != PURPOSE {
            let purpose = clipped(purpose);
            let problem = format!("must be `{PURPOSE}`, got `{purpose}`");
            return Err(FineTuningError::invalid("purpose", problem));
        }
        // a sync takes its time
        let taken: Taken = tokio::task::spawn_blocking(move || intake.finish())
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        // no database takes a NUL, and no terminal wants control characters
        let name = name.chars().filter(|c| !c.is_control()).take(MAX_NAME);
        let row = FileRow {
            id: taken.id,
            name: name.collect(),
            purpose: purpose.to_owned(),
            kind: taken.kind.as_str().to_owned(),
            bytes: i64::try_from(taken.bytes).unwrap_or(i64::MAX),
            line_count: i64::try_from(taken.rows).unwrap_or(i64::MAX),
            created_at: now(),
        };
        if let Err(error) = store.add_file(&row).await {
            // nobody knows of it, so nobody would remove it
            let _ = std::fs::remove_file(&taken.target);
            return Err(error.into());
        }
        Ok(row.into())
    }

    /// Up to `limit` files of a purpose behind the file `after`, and whether there are more.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn files(
        &self,
        after: Option<&str>,
        limit: u32,
        purpose: Option<&str>,
        order: FileOrder,
    ) -> Result<(Vec<FileInfo>, bool), FineTuningError> {
        let (_, store) = self.fine_tuning()?;
        let purpose = purpose.unwrap_or("");
        let mut rows = match order {
            FileOrder::Descending => store.files_before(after, purpose, limit + 1).await?,
            FileOrder::Ascending => store.files_after(after, purpose, limit + 1).await?,
        };
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        Ok((rows.into_iter().map(FileInfo::from).collect(), more))
    }

    /// The file of an id.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub async fn file(&self, id: &str) -> Result<FileInfo, FineTuningError> {
        let (_, store) = self.fine_tuning()?;
        let no_file = || FineTuningError::NoFile(clipped(id));
        if id.contains('\0') {
            return Err(no_file());
        }
        let row = store.file(id).await?.ok_or_else(no_file)?;
        Ok(row.into())
    }

    /// Where a file's content lies.
    ///
    /// # Errors
    /// There is no such file.
    pub async fn file_content(&self, id: &str) -> Result<(FileInfo, PathBuf), FineTuningError> {
        let info = self.file(id).await?;
        let (tuning, _) = self.fine_tuning()?;
        let path = tuning.file(&info.id);
        Ok((info, path))
    }

    /// Removes a file that no job needs any more.
    ///
    /// # Errors
    /// There is none, a job needs it, or it cannot be removed.
    pub async fn delete_file(&self, id: &str) -> Result<(), FineTuningError> {
        let info = self.file(id).await?;
        let (tuning, store) = self.fine_tuning()?;
        if let Some(job) = store.user_of_file(&info.id).await? {
            return Err(FineTuningError::FileInUse { file: info.id, job });
        }
        store.delete_file(&info.id).await?;
        match std::fs::remove_file(tuning.file(&info.id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(disk("its removal")(error))
            }
            _ => Ok(()),
        }
    }
}

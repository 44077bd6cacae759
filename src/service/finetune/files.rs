//! Files that jobs read: kept, listed, handed out again, removed.

use std::path::PathBuf;

use tokio::runtime::Handle;

use super::intake::Taken;
use super::results::job_of;
use super::{FileIntake, FineTuningError, MAX_FILE_BYTES};
use crate::registry::FileRecord;
use crate::service::App;
use crate::service::app::clipped;
use crate::service::keys::now;
use crate::store::FileRow;

/// The one purpose that a file can have.
const PURPOSE: &str = "fine-tune";
/// Longest name, in characters.
const MAX_NAME: usize = 255;

/// A file, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Its id.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// `fine-tune`; `fine-tune-results` of what a job tells.
    pub purpose: String,
    /// Which rows it holds: `prompts`, `pairs` or `texts`; `metrics` of a job.
    pub kind: String,
    /// Its size.
    pub bytes: i64,
    /// Its rows.
    pub rows: i64,
    /// Its size and the hash of its bytes; `None` where an earlier version took it in.
    pub content: Option<FileRecord>,
    /// Seconds since 1970.
    pub created_at: i64,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileContent {
    /// What was uploaded lies here.
    Kept(PathBuf),
    /// What a job tells, as CSV.
    Written(String),
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
        let bytes = u64::try_from(row.bytes).unwrap_or(0);
        Self {
            id: row.id,
            name: row.name,
            purpose: row.purpose,
            kind: row.kind,
            bytes: row.bytes,
            rows: row.line_count,
            content: row.blake3.map(|blake3| FileRecord { bytes, blake3 }),
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
        FileIntake::begin(&tuning.uploads(&Handle::current()), MAX_FILE_BYTES)
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
        let (tuning, store) = self.fine_tuning()?;
        if purpose != PURPOSE {
            let purpose = clipped(purpose);
            let problem = format!("must be `{PURPOSE}`, got `{purpose}`");
            return Err(FineTuningError::invalid("purpose", problem));
        }
        let uploads = tuning.uploads(&Handle::current());
        let taken: Taken = blocking(move || {
            let taken = intake.finish()?;
            uploads.publish(&taken.id).inspect_err(|_| {
                // nobody knows of it, so nobody would remove it
                let _ = uploads.remove(&taken.id);
            })?;
            Ok(taken)
        })
        .await?;
        // no database takes a NUL, and no terminal wants control characters
        let name = name.chars().filter(|c| !c.is_control()).take(MAX_NAME);
        let row = FileRow {
            id: taken.id,
            name: name.collect(),
            purpose: purpose.to_owned(),
            kind: taken.kind.as_str().to_owned(),
            bytes: i64::try_from(taken.bytes).unwrap_or(i64::MAX),
            line_count: i64::try_from(taken.rows).unwrap_or(i64::MAX),
            blake3: Some(taken.blake3),
            created_at: now(),
        };
        if let Err(error) = store.add_file(&row).await {
            // the first error is the one to tell
            let _ = self.remove_content(&row.id).await;
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
        if let Some(job) = job_of(id) {
            return Ok(self.result_file(&job).await?.0);
        }
        let no_file = || FineTuningError::NoFile(clipped(id));
        if id.contains('\0') {
            return Err(no_file());
        }
        let row = store.file(id).await?.ok_or_else(no_file)?;
        Ok(row.into())
    }

    /// A file's content; what was uploaded is fetched where this machine lacks it and a bucket has it.
    ///
    /// # Errors
    /// There is no such file, or the bucket does not have it as it was uploaded.
    pub async fn file_content(&self, id: &str) -> Result<(FileInfo, FileContent), FineTuningError> {
        if let Some(job) = job_of(id) {
            let (info, text) = self.result_file(&job).await?;
            return Ok((info, FileContent::Written(text)));
        }
        let info = self.file(id).await?;
        let path = self.upload(&info).await?;
        Ok((info, FileContent::Kept(path)))
    }

    /// Where the content of an uploaded file lies, fetched first where it does not.
    pub(super) async fn upload(&self, info: &FileInfo) -> Result<PathBuf, FineTuningError> {
        let (tuning, _) = self.fine_tuning()?;
        let uploads = tuning.uploads(&Handle::current());
        let path = uploads.path(&info.id);
        if let (Some(content), false) = (info.content.clone(), path.exists()) {
            let id = info.id.clone();
            blocking(move || Ok(uploads.checked(&id, &content)?)).await?;
        }
        Ok(path)
    }

    /// Removes a file that no job needs any more.
    ///
    /// # Errors
    /// There is none, a job needs it, or it cannot be removed.
    pub async fn delete_file(&self, id: &str) -> Result<(), FineTuningError> {
        let info = self.file(id).await?;
        if job_of(id).is_some() {
            return Err(FineTuningError::ResultFile(info.id));
        }
        let (_, store) = self.fine_tuning()?;
        if let Some(job) = store.user_of_file(&info.id).await? {
            return Err(FineTuningError::FileInUse { file: info.id, job });
        }
        store.delete_file(&info.id).await?;
        self.remove_content(&info.id).await
    }

    async fn remove_content(&self, id: &str) -> Result<(), FineTuningError> {
        let (tuning, _) = self.fine_tuning()?;
        let uploads = tuning.uploads(&Handle::current());
        let id = id.to_owned();
        blocking(move || Ok(uploads.remove(&id)?)).await
    }
}

/// Runs what reads and writes whole files beside the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FineTuningError> + Send + 'static,
) -> Result<T, FineTuningError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

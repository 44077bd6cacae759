//! The flags that name an MLflow server to tell training runs to.

use clap::Args;

use crate::tracking::{MlflowSettings, TrackingError};

/// An MLflow server.
#[derive(Debug, Clone, Args)]
pub struct MlflowArgs {
    /// Address of an MLflow server that is told every step's numbers. What it does or fails to do
    /// never changes or stops a job. A token is read from MLFLOW_TRACKING_TOKEN [default: none]
    #[arg(long, env = "STEERSMAN_MLFLOW_URL", value_name = "URL")]
    pub mlflow_url: Option<String>,
    /// Name of the experiment that runs belong to there; made where there is none
    #[arg(
        long,
        env = "STEERSMAN_MLFLOW_EXPERIMENT",
        value_name = "NAME",
        default_value = "steersman"
    )]
    pub mlflow_experiment: String,
}

impl MlflowArgs {
    /// Where a server is named, how it is spoken to.
    ///
    /// # Errors
    /// The address is none.
    pub fn settings(&self) -> Result<Option<MlflowSettings>, TrackingError> {
        let url = self.mlflow_url.as_deref().filter(|url| !url.is_empty());
        url.map(|url| MlflowSettings::new(url, &self.mlflow_experiment))
            .transpose()
    }
}

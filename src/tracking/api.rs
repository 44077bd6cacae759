//! MLflow's REST calls, as far as a run needs them.

use serde_json::{Value, json};

use super::client::{CallError, Client};

/// Most metrics and most parameters of one `log-batch`, by MLflow's own limits.
pub(super) const METRICS_A_BATCH: usize = 1000;
const PARAMS_A_BATCH: usize = 100;
/// Longest value of a parameter.
const VALUE_CHARS: usize = 500;

/// One number of one step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Metric {
    pub(super) key: String,
    pub(super) value: f64,
    pub(super) timestamp_ms: i64,
    pub(super) step: u64,
}

/// How a run ends, in MLflow's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// All done.
    Finished,
    /// It stopped with an error.
    Failed,
    /// It was saved and will go on.
    Interrupted,
}

impl RunEnd {
    fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Interrupted => "SCHEDULED",
        }
    }
}

/// The id of the experiment of this name, made where there is none.
pub(super) async fn experiment(client: &Client) -> Result<String, CallError> {
    let name = &client.settings().experiment;
    let route = format!("experiments/get-by-name?experiment_name={}", escaped(name));
    match client.get(&route).await {
        Ok(answer) => word(&answer["experiment"]["experiment_id"], "an experiment"),
        Err(error) if error.is_missing() => {
            let made = client
                .post("experiments/create", &json!({"name": name}))
                .await?;
            word(&made["experiment_id"], "an experiment")
        }
        Err(error) => Err(error),
    }
}

/// Makes a run and returns its id.
pub(super) async fn create_run(
    client: &Client,
    name: &str,
    start_ms: i64,
) -> Result<String, CallError> {
    let body = json!({
        "experiment_id": experiment(client).await?,
        "run_name": name,
        "start_time": start_ms,
        "tags": [
            {"key": "mlflow.runName", "value": name},
            {"key": "mlflow.source.name", "value": "steersman"},
        ],
    });
    let made = client.post("runs/create", &body).await?;
    word(&made["run"]["info"]["run_id"], "a run")
}

/// Says of a run from an earlier attempt that it goes on.
pub(super) async fn go_on(client: &Client, run: &str) -> Result<(), CallError> {
    let body = json!({"run_id": run, "status": "RUNNING"});
    client.post("runs/update", &body).await.map(drop)
}

/// Says what a run was asked for.
pub(super) async fn log_params(
    client: &Client,
    run: &str,
    params: &[(String, String)],
) -> Result<(), CallError> {
    for part in params.chunks(PARAMS_A_BATCH) {
        let params: Vec<Value> = part
            .iter()
            .map(|(key, value)| {
                let value: String = value.chars().take(VALUE_CHARS).collect();
                json!({"key": allowed(key), "value": value})
            })
            .collect();
        let body = json!({"run_id": run, "params": params});
        client.post("runs/log-batch", &body).await?;
    }
    Ok(())
}

/// Tells numbers; at most `METRICS_A_BATCH`.
pub(super) async fn log_metrics(
    client: &Client,
    run: &str,
    metrics: &[Metric],
) -> Result<(), CallError> {
    let metrics: Vec<Value> = metrics
        .iter()
        .map(|metric| {
            json!({
                "key": allowed(&metric.key),
                "value": metric.value,
                "timestamp": metric.timestamp_ms,
                "step": metric.step,
            })
        })
        .collect();
    let body = json!({"run_id": run, "metrics": metrics});
    client.post("runs/log-batch", &body).await.map(drop)
}

/// Says that a run is over, or waits to go on.
pub(super) async fn end_run(
    client: &Client,
    run: &str,
    end: RunEnd,
    end_ms: i64,
) -> Result<(), CallError> {
    let mut body = json!({"run_id": run, "status": end.as_str()});
    if end != RunEnd::Interrupted {
        body["end_time"] = json!(end_ms);
    }
    client.post("runs/update", &body).await.map(drop)
}

fn word(value: &Value, what: &str) -> Result<String, CallError> {
    let word = value.as_str().map(str::to_owned);
    word.ok_or_else(|| CallError::Odd(format!("{what} without an id")))
}

/// A key with the characters that MLflow takes.
fn allowed(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-. /".contains(c);
    key.chars()
        .map(|c| if plain(c) { c } else { '_' })
        .take(250)
        .collect()
}

/// A query's value.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_mlflow_takes_them() {
        assert_eq!(escaped("a b/ü"), "a%20b%2F%C3%BC");
        assert_eq!(allowed("reward/brevity:mean"), "reward/brevity_mean");
    }
}

//! Asks a server what it is and what it takes, before it is measured.

use serde_json::Value;

use super::client::Client;
use super::error::BenchError;
use super::plan::body;
use super::workload::Workload;

/// Words of the two trial prompts.
const TRIALS: [usize; 2] = [8, 40];

/// What a server said of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// The model that is asked.
    pub model: String,
    /// The server's version, where it tells one at `/version`.
    pub version: Option<String>,
    /// Whether it generates on beyond the end of an answer, so that all are as long as asked.
    pub ignores_eos: bool,
    /// Words of a prompt that has about as many tokens as the workload asks for.
    pub prompt_words: usize,
    /// What its model can be steered by; empty unless weights are asked for.
    pub objectives: Vec<String>,
}

/// Asks the server. `model` is the one to load, else the server's default, else its first.
///
/// # Errors
/// It does not answer, refuses a trial request, or has no objectives where weights are asked for.
pub async fn survey(
    client: &Client,
    workload: &Workload,
    model: Option<String>,
) -> Result<Survey, BenchError> {
    let model = match model {
        Some(model) => model,
        None => default_model(client).await?,
    };
    let objectives = match workload.weights {
        Some(_) => objectives(client, &model).await?,
        None => Vec::new(),
    };
    let version = client.get("/version").await.ok();
    let version = version.and_then(|reply| reply["version"].as_str().map(str::to_owned));
    let mut survey = Survey {
        model,
        version,
        ignores_eos: true,
        prompt_words: workload.prompt_tokens.max(1),
        objectives,
    };
    let first = match trial(client, workload, &survey, TRIALS[0]).await {
        Err(BenchError::Refused {
            status: 400 | 422, ..
        }) => {
            survey.ignores_eos = false;
            trial(client, workload, &survey, TRIALS[0]).await?
        }
        other => other?,
    };
    let second = trial(client, workload, &survey, TRIALS[1]).await?;
    if let (Some(first), Some(second)) = (first, second) {
        survey.prompt_words = words_for(workload.prompt_tokens, [first, second]);
    }
    Ok(survey)
}

async fn default_model(client: &Client) -> Result<String, BenchError> {
    let reply = client.get("/v1/models").await?;
    let models = reply["data"].as_array().cloned().unwrap_or_default();
    let chosen = models
        .iter()
        .find(|model| model["default"] == true)
        .or(models.first());
    let id = chosen.and_then(|model| model["id"].as_str());
    id.map(str::to_owned).ok_or_else(|| BenchError::Strange {
        what: format!("GET {}/v1/models", client.base()),
        problem: "it lists no model; name one with `--model`".into(),
    })
}

async fn objectives(client: &Client, model: &str) -> Result<Vec<String>, BenchError> {
    let query: String = model
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect();
    let reply = client.get(&format!("/v1/objectives?model={query}")).await;
    let listed = match reply {
        Ok(reply) => reply["objectives"].as_array().cloned().unwrap_or_default(),
        Err(BenchError::Refused { status: 404, .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let names = listed.iter().filter_map(|one| one["name"].as_str());
    let names: Vec<String> = names.map(str::to_owned).collect();
    match names.is_empty() {
        true => Err(BenchError::NoObjectives {
            model: model.to_owned(),
        }),
        false => Ok(names),
    }
}

/// Tokens of a prompt of so many words, where the server counts them.
async fn trial(
    client: &Client,
    workload: &Workload,
    survey: &Survey,
    words: usize,
) -> Result<Option<usize>, BenchError> {
    let workload = Workload {
        output_tokens: 1,
        ..workload.clone()
    };
    // a place that no request of the run has
    let body = body(&workload, survey, words, usize::MAX - words);
    let reply = client
        .post(workload.api.path(), &Value::Object(body))
        .await?;
    let tokens = reply["usage"]["prompt_tokens"].as_u64();
    Ok(tokens.map(|tokens| tokens as usize))
}

/// Words for so many tokens, on the line through the two trials.
fn words_for(tokens: usize, trials: [usize; 2]) -> usize {
    let words = TRIALS.map(|words| words as f64);
    let [first, second] = trials.map(|tokens| tokens as f64);
    let a_word = (second - first) / (words[1] - words[0]);
    // a server that counts nothing, or the same for both, is taken at its word for words
    if a_word <= 0.0 {
        return tokens.max(1);
    }
    let found = words[0] + (tokens as f64 - first) / a_word;
    (found.round() as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_out_by_two_trials() {
        let check = |tokens, trials, words| assert_eq!(words_for(tokens, trials), words);
        // ten tokens around, one and a half a word
        check(70, [22, 70], 40);
        check(100, [22, 70], 60);
        check(5, [22, 70], 1);
        check(64, [0, 0], 64);
    }
}

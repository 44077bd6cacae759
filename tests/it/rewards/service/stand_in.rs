//! A server in this process that answers as a test says and keeps what it was asked.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, header};
use serde_json::{Value, json};
use steersman::rewards::{Exchange, RewardConfig, RewardError, build};
use steersman::types::Message;

use crate::elsewhere;

/// What it says.
pub(crate) enum Says {
    /// 200 with JSON.
    Json(Value),
    /// 200 with a text that need not be JSON.
    Text(&'static str),
    /// A failure, with JSON.
    Status(u16, Value),
    /// Go elsewhere.
    Redirect(String),
    /// Nothing, ever.
    Nothing,
}

type Answer = dyn Fn(usize, &Value) -> Says + Send + Sync;

struct Shared {
    answer: Box<Answer>,
    asked: Mutex<Vec<Value>>,
    keys: Mutex<Vec<Option<String>>>,
}

/// A running stand-in; it ends with the test's process.
pub(crate) struct StandIn {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

impl StandIn {
    /// `answer` gets the number of the request, from 0, and its body.
    pub(crate) fn start(answer: impl Fn(usize, &Value) -> Says + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            asked: Mutex::default(),
            keys: Mutex::default(),
        });
        let router = Router::new()
            .fallback(reply)
            .with_state(Arc::clone(&shared));
        let url = elsewhere::serve(router);
        Self { url, shared }
    }

    /// Bodies of all requests so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The `authorization` of all requests so far.
    pub(super) fn keys(&self) -> Vec<Option<String>> {
        self.shared.keys.lock().unwrap().clone()
    }
}

async fn reply(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    let body: Value = serde_json::from_slice(&body).unwrap();
    let number = {
        let mut asked = shared.asked.lock().unwrap();
        asked.push(body.clone());
        let key = headers.get(header::AUTHORIZATION);
        let key = key.map(|key| key.to_str().unwrap().to_owned());
        shared.keys.lock().unwrap().push(key);
        asked.len() - 1
    };
    let with = |status: u16, text: String| {
        let response = Response::builder().status(status);
        response.body(Body::from(text)).unwrap()
    };
    match (shared.answer)(number, &body) {
        Says::Json(value) => with(200, value.to_string()),
        Says::Text(text) => with(200, text.to_owned()),
        Says::Status(status, value) => with(status, value.to_string()),
        Says::Redirect(to) => Response::builder()
            .status(StatusCode::TEMPORARY_REDIRECT)
            .header(header::LOCATION, to)
            .body(Body::empty())
            .unwrap(),
        Says::Nothing => std::future::pending().await,
    }
}

/// Five answers: two to each of two prompts, one to a third.
pub(super) const ANSWERS: [(&str, &str); 5] = [
    ("Is it far?", "No."),
    ("Is it far?", "It is an hour's walk."),
    ("Why is it so?", "Nobody knows why."),
    ("Why is it so?", "Because."),
    ("And now?", "Now we rest a little."),
];

/// What a reward of this configuration says of the five.
pub(super) fn score(config: &Value) -> Result<Vec<f32>, RewardError> {
    let config: RewardConfig = serde_json::from_value(config.clone()).unwrap();
    let reward = build(&config)?;
    let prompts = ANSWERS.map(|(prompt, _)| [Message::user(prompt)]);
    let record = json!({"label": "the truth"});
    let exchanges: Vec<Exchange<'_>> = prompts
        .iter()
        .zip(ANSWERS)
        .map(|(prompt, (_, completion))| Exchange {
            prompt,
            completion,
            completion_tokens: 1,
            finished: true,
            record: &record,
        })
        .collect();
    reward.score(&exchanges)
}

/// The whole chain of an error.
pub(super) fn words(error: &RewardError) -> String {
    steersman::service::chain(error)
}

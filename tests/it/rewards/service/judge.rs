//! A chat model as a judge: what it is shown, how its grades are read, both orders of a pair.

use serde_json::{Value, json};

use super::stand_in::{ANSWERS, Says, StandIn, score, words};

fn config(server: &StandIn, mode: &str) -> Value {
    json!({
        "kind": "judge", "url": format!("{}/v1/chat/completions", server.url), "model": "grader",
        "rubric": "Longer is better.", "mode": mode, "retries": 2, "backoff_ms": 1,
    })
}

fn reply(text: &str) -> Says {
    let message = json!({"role": "assistant", "content": text});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    Says::Json(json!({"object": "chat.completion", "choices": [choice]}))
}

/// The texts between the markers of this beginning, such as `answer`.
fn shown<'a>(request: &'a Value, name: &str) -> &'a str {
    let text = request["messages"][1]["content"].as_str().unwrap();
    let start = text.find(&format!("[{name} ")).unwrap();
    let open = text[start..].find("]\n").unwrap() + start + 2;
    let close = text[open..].find(&format!("\n[/{name} ")).unwrap() + open;
    &text[open..close]
}

/// A judge's honest grade.
fn grade(answer: &str) -> usize {
    (answer.len() / 3).clamp(1, 10)
}

#[test]
fn each_answer_is_graded_alone() {
    let server = StandIn::start(|_, body| {
        assert_eq!(body["model"], "grader");
        assert_eq!(body["temperature"], 0.0);
        let rules = body["messages"][0]["content"].as_str().unwrap();
        assert!(rules.contains("Longer is better.") && rules.ends_with("Grade: N"));
        reply(&format!(
            "It is so.\nGrade: {}",
            grade(shown(body, "answer"))
        ))
    });
    let expected = ANSWERS.map(|(_, answer)| grade(answer) as f32);
    assert_eq!(score(&config(&server, "alone")).unwrap(), expected);
    let asked = server.asked();
    let first = asked
        .iter()
        .find(|body| shown(body, "answer") == "No.")
        .unwrap();
    let conversation = first["messages"][1]["content"].as_str().unwrap();
    assert!(
        conversation.contains("user: Is it far?\n"),
        "{conversation}"
    );
}

#[test]
fn pairs_are_shown_in_both_orders_and_a_favourite_place_cancels_out() {
    // a judge that gives whatever stands first two more
    let server = StandIn::start(|_, body| {
        let text = body["messages"][1]["content"].as_str().unwrap();
        if !text.contains("[answer A ") {
            return reply("Alone.\nGrade: 5");
        }
        let (a, b) = (shown(body, "answer A"), shown(body, "answer B"));
        let (a, b) = ((a.len() / 3).clamp(1, 8) + 2, (b.len() / 3).clamp(1, 8));
        reply(&format!("A, surely.\nGrade A: {a}\nGrade B: {b}"))
    });
    let mut expected = ANSWERS.map(|(_, answer)| (answer.len() / 3).clamp(1, 8) as f32 + 1.0);
    // it has no neighbour with the same prompt
    expected[4] = 5.0;
    assert_eq!(score(&config(&server, "pairs")).unwrap(), expected);
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn a_reply_without_a_grade_is_asked_for_again_and_warmer() {
    let server = StandIn::start(|_, body| match body["seed"].as_u64().unwrap() {
        0 => reply("I would say eight of ten."),
        _ => reply("Grade: 8"),
    });
    assert_eq!(score(&config(&server, "alone")).unwrap(), [8.0; 5]);
    let again = server.asked().into_iter().filter(|body| body["seed"] == 1);
    assert!(again.clone().count() == 5 && again.clone().all(|body| body["temperature"] == 0.5));
}

#[test]
fn a_judge_that_gives_no_grade_is_an_error_and_no_0() {
    for text in [
        "Fine.",
        "Grade: 0",
        "Grade: 11",
        "Grade: 7/10",
        "Grade: 9\nOr not.",
    ] {
        let server = StandIn::start(move |_, _| reply(text));
        let error = score(&config(&server, "alone")).unwrap_err();
        assert!(error.is_service_failure(), "{error}");
        assert!(words(&error).contains("no grade"), "{}", words(&error));
    }
    let cut = json!({"choices": [{"message": {"content": "Grade: 8"}, "finish_reason": "length"}]});
    let server = StandIn::start(move |_, _| Says::Json(cut.clone()));
    let error = score(&config(&server, "alone")).unwrap_err();
    assert!(words(&error).contains("cut after 512"), "{}", words(&error));
}

#[test]
fn settings_of_a_judge_are_checked() {
    let check = |name: &str, value: Value, says: &str| {
        let mut config = json!({
            "kind": "judge", "url": "http://127.0.0.1:1/v1/chat/completions", "model": "m",
            "rubric": "x",
        });
        config[name] = value;
        let error = score(&config).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    check("url", json!("http://127.0.0.1:1/v1"), "/chat/completions");
    check("rubric", json!(" "), "`rubric` is empty");
    check("temperature", json!(3), "`temperature` is 3");
    check("max_tokens", json!(1), "`max_tokens` is 1");
    check("parallel", json!(0), "`parallel` is 0");
}

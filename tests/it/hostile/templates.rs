//! Chat templates from strangers: a checkpoint's template is a program, so it gets bounded work, no
//! way to the outside, and an error that names it. Requests cannot bring one.

use std::time::{Duration, Instant};

use steersman::text::{PromptEncoder, TextError};
use steersman::types::Message;

use crate::fixtures::fixture;

/// Far more than a bounded template takes, far less than an unbounded one.
const SOON: Duration = Duration::from_secs(10);

/// The llama fixture's tokenizer with another template.
fn with_template(template: &str) -> Result<PromptEncoder, TextError> {
    let folder = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixture("llama").join(file), folder.path().join(file)).unwrap();
    }
    std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    PromptEncoder::load(folder.path())
}

/// Loads a template and renders one message with it, in a thread with the stack that a server's
/// threads have.
fn rendered(template: String) -> Result<usize, TextError> {
    let render = move || {
        let tokens = with_template(&template)?.encode_chat(&[Message::user("hi")], None)?;
        Ok(tokens.len())
    };
    let stack = 2 << 20;
    let thread = std::thread::Builder::new().stack_size(stack).spawn(render);
    thread.unwrap().join().expect("no template panics")
}

#[test]
fn templates_that_never_end_or_reach_out_are_refused_soon() {
    let nested = |depth: usize| {
        let open = "{% if true %}".repeat(depth);
        format!("{open}x{}", "{% endif %}".repeat(depth))
    };
    let loops = "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}";
    let endless = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}";
    let walk = "{{ messages.__class__.__mro__[1].__subclasses__() }}";
    for template in [
        loops.to_owned(),
        "{{ 'x' * 1000000000 }}".to_owned(),
        "{{ range(1000000000) | list | length }}".to_owned(),
        endless.to_owned(),
        nested(20_000),
        format!("{{{{ {}1{} }}}}", "(".repeat(6000), ")".repeat(6000)),
        walk.to_owned(),
        "{{ ''.__class__.__base__.__subclasses__()[0]() }}".to_owned(),
        "{% include '/etc/passwd' %}".to_owned(),
        "{% import 'os' as os %}{{ os.popen('id').read() }}".to_owned(),
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}".to_owned(),
    ] {
        let told: String = template.chars().take(60).collect();
        let started = Instant::now();
        let found = rendered(template);
        let took = started.elapsed();
        assert!(took < SOON, "{told}: {took:?}");
        let error = found.err().unwrap_or_else(|| panic!("{told} was rendered"));
        let named = matches!(
            error,
            TextError::TemplateSyntax { .. } | TextError::TemplateFailed(_)
        );
        assert!(named, "{told}: {error}");
        assert!(error.to_string().len() < 1000, "{told}: {error}");
    }
}

#[test]
fn a_template_sees_nothing_of_the_process() {
    for name in [
        "environ", "env", "os", "open", "self", "config", "request", "globals",
    ] {
        let found = rendered(format!("a{{{{ {name} }}}}b"));
        let empty = rendered("ab".to_owned()).unwrap();
        // undefined, so it is nothing or an error
        assert!(found.is_err() || found.unwrap() <= empty + 1, "{name}");
    }
}

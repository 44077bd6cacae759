//! One scrape, in the text format that Prometheus reads (version 0.0.4).

use std::fmt::Write;

use super::Histogram;
use super::names::{Kind, Metric};

/// The media type of a page.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names and values of labels.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// A page under way.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    /// Under its alias each metric is told again, with this model's name.
    alias_model: Option<String>,
}

impl Page {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one that tells metrics under vLLM's names too, as metrics of this model.
    pub fn with_aliases(model: &str) -> Self {
        Self {
            text: String::new(),
            alias_model: Some(model.to_owned()),
        }
    }

    /// The page's text.
    pub fn finish(self) -> String {
        self.text
    }

    /// A metric that is one number.
    pub fn number(&mut self, metric: &Metric, value: f64) {
        self.numbers(metric, [(&[] as Labels<'_>, value)]);
    }

    /// A metric that is a number for each of some labels.
    pub fn numbers<L: AsRef<[(&'static str, S)]>, S: AsRef<str>>(
        &mut self,
        metric: &Metric,
        values: impl IntoIterator<Item = (L, f64)>,
    ) {
        let values: Vec<_> = values.into_iter().collect();
        self.family(metric, |text, name, own| {
            for (labels, value) in &values {
                let labels = labels.as_ref().iter().map(|(k, v)| (*k, v.as_ref()));
                line(text, name, own.iter().copied().chain(labels), *value);
            }
        });
    }

    /// A metric that has no name of ours: told where vLLM's names are, in vLLM's own labels.
    pub fn foreign<L: AsRef<[(&'static str, S)]>, S: AsRef<str>>(
        &mut self,
        metric: &Metric,
        values: impl IntoIterator<Item = (L, f64)>,
    ) {
        if self.alias_model.is_some() {
            self.numbers(metric, values);
        }
    }

    /// A metric that is a histogram.
    pub fn histogram(&mut self, metric: &Metric, histogram: &Histogram) {
        let buckets = histogram.cumulative();
        let count = buckets.last().map_or(0, |(_, count)| *count);
        let sum = histogram.sum();
        self.family(metric, |text, name, own| {
            for (bound, below) in &buckets {
                let bound = number(*bound);
                let labels = own.iter().copied().chain([("le", bound.as_str())]);
                line(text, &format!("{name}_bucket"), labels, *below as f64);
            }
            line(text, &format!("{name}_sum"), own.iter().copied(), sum);
            line(
                text,
                &format!("{name}_count"),
                own.iter().copied(),
                count as f64,
            );
        });
    }

    /// Writes a metric under its name, and where that is wanted under its alias.
    fn family(&mut self, metric: &Metric, write: impl Fn(&mut String, &str, Labels<'_>)) {
        let mut names = vec![(metric.name, None)];
        if let (Some(model), Some(alias)) = (&self.alias_model, metric.alias) {
            names.push((alias, Some(model.clone())));
        }
        for (name, model) in names {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            // writing to a string cannot fail
            let _ = writeln!(self.text, "# HELP {name} {}", metric.help);
            let _ = writeln!(self.text, "# TYPE {name} {kind}");
            let own = model.as_deref().map(|model| ("model_name", model));
            write(&mut self.text, name, own.as_slice());
        }
    }
}

fn line<'a>(
    text: &mut String,
    name: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    value: f64,
) {
    text.push_str(name);
    let mut separator = '{';
    for (label, value) in labels {
        let _ = write!(text, "{separator}{label}=\"{}\"", escaped(value));
        separator = ',';
    }
    if separator == ',' {
        text.push('}');
    }
    let _ = writeln!(text, " {}", number(value));
}

fn number(value: f64) -> String {
    match value.is_infinite() {
        true => "+Inf".to_owned(),
        false => value.to_string(),
    }
}

fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let mut page = Page::new();
        page.number(&names::RUNNING, 3.0);
        let labels = [("finished_reason", "a\"b\\c\nd")];
        page.numbers(&names::FINISHED, [(labels, 2.0)]);
        let expected = "# HELP steersman_requests_running Sequences that are computed now.\n\
                        # TYPE steersman_requests_running gauge\n\
                        steersman_requests_running 3\n";
        let text = page.finish();
        assert!(text.starts_with(expected), "{text}");
        let escaped = r#"steersman_requests_finished_total{finished_reason="a\"b\\c\nd"} 2"#;
        assert!(text.lines().any(|line| line == escaped), "{text}");
    }

    #[test]
    fn a_histogram_is_told_under_its_alias_too_where_that_is_wanted() {
        let histogram = Histogram::new(&[0.5, 2.0]);
        histogram.observe(1.25);
        let mut page = Page::with_aliases("facts");
        page.histogram(&names::FIRST_TOKEN, &histogram);
        let text = page.finish();
        for line in [
            "# TYPE steersman_time_to_first_token_seconds histogram",
            r#"steersman_time_to_first_token_seconds_bucket{le="0.5"} 0"#,
            r#"steersman_time_to_first_token_seconds_bucket{le="2"} 1"#,
            r#"steersman_time_to_first_token_seconds_bucket{le="+Inf"} 1"#,
            "steersman_time_to_first_token_seconds_sum 1.25",
            "steersman_time_to_first_token_seconds_count 1",
            r#"vllm:time_to_first_token_seconds_bucket{model_name="facts",le="2"} 1"#,
            r#"vllm:time_to_first_token_seconds_sum{model_name="facts"} 1.25"#,
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
        }
    }
}

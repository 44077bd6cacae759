//! What a reward model is, for those who ask whether its folder can be served.

use std::path::Path;

use serde_json::Value;

use super::Inspection;
use crate::model::classifier::SequenceClassifier;
use crate::service::error::chain;
use crate::training::reward_model::RewardCard;

/// The architecture's name, where a folder's configuration says that it is a classifier.
pub(super) fn classifier_name(config: &Value) -> Option<&str> {
    let name = config["architectures"][0].as_str()?;
    name.ends_with("ForSequenceClassification").then_some(name)
}

impl Inspection {
    /// Tells what the classifier in `dir` is; that it cannot be served is told as its problem.
    pub(super) fn look_at_classifier(&mut self, dir: &Path, config: &Value) {
        let name = classifier_name(config).unwrap_or_default();
        self.facts.push(format!("folder: {}", dir.display()));
        match SequenceClassifier::load(dir) {
            Ok(classifier) => self.describe_classifier(name, &classifier, config),
            Err(error) => {
                let told = chain(&error);
                self.problems
                    .push(format!("the {name} in it cannot be loaded: {told}"));
            }
        }
        match RewardCard::load(dir) {
            Ok(Some(card)) => self.describe_card(&card),
            Ok(None) => {}
            Err(error) => self.problems.push(chain(&error)),
        }
        self.problems.push(format!(
            "it is a reward model, which scores answers and writes none; name it in a job's \
             objective: reward = {{ kind = \"classifier\", path = \"{}\" }}",
            dir.display()
        ));
    }

    fn describe_classifier(&mut self, name: &str, classifier: &SequenceClassifier, config: &Value) {
        let labels = classifier.num_labels();
        let outputs = if labels == 1 { "output" } else { "outputs" };
        self.facts.push(format!(
            "reward model: {name}, a head of {labels} {outputs}{}",
            label_names(config, labels)
        ));
        let input = match classifier.expects_dialogue() {
            true => "the dialogue by its chat template",
            false => "a pair of texts, prompt and answer",
        };
        let length = classifier
            .max_tokens()
            .map_or("any length".to_owned(), |most| {
                format!("at most {most} tokens")
            });
        self.facts.push(format!("reads: {input}, {length}"));
    }

    fn describe_card(&mut self, card: &RewardCard) {
        let objective = card.objective.as_deref().unwrap_or("any objective");
        self.facts.push(format!("trained on pairs of: {objective}"));
        self.facts
            .push(format!("base: {}, hash {}", card.base.name, card.base.hash));
        let agreement = &card.agreement;
        self.facts.push(format!(
            "agrees with {:.1} % of {} test pairs (the longer answer wins {:.1} %)",
            100.0 * agreement.accuracy.value,
            agreement.pairs,
            100.0 * agreement.longer_wins.value,
        ));
    }
}

/// The labels' own names; the names that every checkpoint has are no news.
fn label_names(config: &Value, labels: usize) -> String {
    let name = |label: usize| config["id2label"][label.to_string()].as_str();
    let names: Vec<&str> = (0..labels).filter_map(name).collect();
    let own = names.iter().any(|name| !name.starts_with("LABEL_"));
    match own {
        true => format!(" ({})", names.join(", ")),
        false => String::new(),
    }
}

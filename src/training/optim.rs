//! AdamW whose moments can be saved, so that a resumed job goes on to the bit.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};

use super::TrainingError;
use super::config::OptimizerSettings;
use super::gradients::Gradients;

/// AdamW (arXiv 1711.05101) over a fixed list of variables, moments in f32.
#[derive(Debug)]
pub struct AdamW {
    vars: Vec<(String, Var)>,
    moments: Vec<Moments>,
    updates: u64,
    settings: OptimizerSettings,
}

/// Running means of a variable's gradient and of its square.
#[derive(Debug, Clone)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

/// The factors of one update.
struct Rates {
    decay: f32,
    step_size: f32,
    beta1: f32,
    beta2: f32,
    root_correction: f32,
    epsilon: f32,
}

impl AdamW {
    /// Moments of zero for each variable.
    pub fn new(vars: Vec<(String, Var)>, settings: OptimizerSettings) -> Self {
        let zeros = |var: &Var| vec![0.0; var.elem_count()];
        let moments = vars
            .iter()
            .map(|(_, var)| Moments {
                first: zeros(var),
                second: zeros(var),
            })
            .collect();
        Self {
            vars,
            moments,
            updates: 0,
            settings,
        }
    }

    /// The variables, in the order of the gradients' slots.
    pub fn vars(&self) -> &[(String, Var)] {
        &self.vars
    }

    /// One update. A variable without a gradient stays as it is, decay included.
    pub fn step(&mut self, gradients: &Gradients, learning_rate: f64) -> Result<(), TrainingError> {
        self.updates += 1;
        let s = &self.settings;
        let correction = |beta: f64| 1.0 - beta.powf(self.updates as f64);
        let rates = Rates {
            decay: (1.0 - learning_rate * s.weight_decay) as f32,
            step_size: (learning_rate / correction(s.beta1)) as f32,
            beta1: s.beta1 as f32,
            beta2: s.beta2 as f32,
            root_correction: correction(s.beta2).sqrt() as f32,
            epsilon: s.epsilon as f32,
        };
        let slots = gradients.slots().iter().zip(&mut self.moments);
        for ((slot, moments), (_, var)) in slots.zip(&self.vars) {
            let Some(gradient) = slot else { continue };
            let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
            let mut values = var.as_tensor().flatten_all()?.to_vec1::<f32>()?;
            update(&mut values, &gradient, moments, &rates);
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        }
        Ok(())
    }

    /// Variables, moments and the number of updates, for a saved state.
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>, TrainingError> {
        let mut tensors = Vec::with_capacity(self.vars.len() * 3);
        for ((name, var), moments) in self.vars.iter().zip(&self.moments) {
            let tensor = |values: &[f32]| Tensor::from_slice(values, var.shape(), &Device::Cpu);
            tensors.push((format!("param.{name}"), var.as_tensor().copy()?.detach()));
            tensors.push((format!("first.{name}"), tensor(&moments.first)?));
            tensors.push((format!("second.{name}"), tensor(&moments.second)?));
        }
        Ok(tensors)
    }

    /// Updates made so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Takes over what `tensors` returned, or says what does not fit.
    pub fn restore(
        &mut self,
        updates: u64,
        mut tensors: BTreeMap<String, Tensor>,
    ) -> Result<(), String> {
        for ((name, var), moments) in self.vars.iter().zip(&mut self.moments) {
            let mut take = |part: &str| {
                let key = format!("{part}.{name}");
                let tensor = tensors
                    .remove(&key)
                    .ok_or(format!("tensor `{key}` is missing"))?;
                if tensor.shape() != var.shape() {
                    let (found, expected) = (tensor.shape(), var.shape());
                    return Err(format!(
                        "tensor `{key}` is {found:?}, expected {expected:?}"
                    ));
                }
                Ok(tensor)
            };
            let [param, first, second] = [take("param")?, take("first")?, take("second")?];
            let values = |tensor: Tensor| {
                tensor
                    .flatten_all()
                    .and_then(|flat| flat.to_vec1::<f32>())
                    .map_err(|error| error.to_string())
            };
            var.set(&param).map_err(|error| error.to_string())?;
            *moments = Moments {
                first: values(first)?,
                second: values(second)?,
            };
        }
        self.updates = updates;
        match tensors.keys().next() {
            None => Ok(()),
            Some(key) => Err(format!("tensor `{key}` is not trained by this job")),
        }
    }
}

fn update(values: &mut [f32], gradient: &[f32], moments: &mut Moments, rates: &Rates) {
    let moments = moments.first.iter_mut().zip(&mut moments.second);
    for ((value, &g), (m, v)) in values.iter_mut().zip(gradient).zip(moments) {
        *m = rates.beta1 * *m + (1.0 - rates.beta1) * g;
        *v = rates.beta2 * *v + (1.0 - rates.beta2) * g * g;
        let root = v.sqrt() / rates.root_correction + rates.epsilon;
        *value = *value * rates.decay - rates.step_size * *m / root;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn rows(value: &Value) -> Vec<Vec<f32>> {
        let row = |row: &Value| -> Vec<f32> {
            row.as_array()
                .unwrap()
                .iter()
                .map(|x| x.as_f64().unwrap() as f32)
                .collect()
        };
        value.as_array().unwrap().iter().map(row).collect()
    }

    fn close(actual: &[f32], expected: &[f32]) {
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() <= 2e-6, "{a} is not {e}");
        }
    }

    /// The gradients' slots, by way of a loss whose gradient they are.
    fn gradients(vars: &[(String, Var)], wanted: &[Vec<f32>]) -> Gradients {
        let mut gradients = Gradients::new(vars.len());
        for ((_, var), wanted) in vars.iter().zip(wanted) {
            let wanted = Tensor::new(wanted.as_slice(), &Device::Cpu).unwrap();
            let loss = (var.as_tensor() * wanted).unwrap().sum_all().unwrap();
            gradients.add(vars, &loss.backward().unwrap()).unwrap();
        }
        gradients
    }

    #[test]
    fn clipping_moments_and_parameters_are_the_golden_ones() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/preference_math/optim.json"
        );
        let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let case = &file["adamw"];
        let mut settings = OptimizerSettings::with_learning_rate(case["lr"].as_f64().unwrap());
        settings.weight_decay = case["weight_decay"].as_f64().unwrap();
        let start = rows(&case["start"]);
        let vars = start.iter().enumerate().map(|(i, row)| {
            let tensor = Tensor::new(row.as_slice(), &Device::Cpu).unwrap();
            (format!("v{i}"), Var::from_tensor(&tensor).unwrap())
        });
        let mut adam = AdamW::new(vars.collect(), settings.clone());
        for step in case["steps"].as_array().unwrap() {
            let mut gradients = gradients(adam.vars(), &rows(&step["grad"]));
            let norm = gradients.clip(case["clip"].as_f64().unwrap()).unwrap();
            assert!((norm - step["norm"].as_f64().unwrap()).abs() < 1e-5);
            adam.step(&gradients, settings.learning_rate).unwrap();
            let expected = [
                rows(&step["param"]),
                rows(&step["exp_avg"]),
                rows(&step["exp_avg_sq"]),
            ];
            for (index, (_, var)) in adam.vars.iter().enumerate() {
                close(
                    &var.as_tensor().to_vec1::<f32>().unwrap(),
                    &expected[0][index],
                );
                close(&adam.moments[index].first, &expected[1][index]);
                close(&adam.moments[index].second, &expected[2][index]);
            }
        }
    }

    #[test]
    fn a_restored_optimiser_takes_the_same_next_step() {
        let make = || {
            let tensor = Tensor::new(&[0.3f32, -0.7], &Device::Cpu).unwrap();
            let vars = vec![("a".to_owned(), Var::from_tensor(&tensor).unwrap())];
            AdamW::new(vars, OptimizerSettings::with_learning_rate(0.1))
        };
        let step = |adam: &mut AdamW, g: f32| {
            let gradients = gradients(adam.vars(), &[vec![g, -g * 0.3]]);
            adam.step(&gradients, 0.1).unwrap();
        };
        let mut whole = make();
        step(&mut whole, 0.2);
        let mut resumed = make();
        resumed
            .restore(
                whole.updates(),
                whole.tensors().unwrap().into_iter().collect(),
            )
            .unwrap();
        for adam in [&mut whole, &mut resumed] {
            step(adam, -0.4);
        }
        let bits = |adam: &AdamW| -> Vec<u32> {
            let values = adam.vars[0].1.as_tensor().to_vec1::<f32>().unwrap();
            values.iter().map(|x| x.to_bits()).collect()
        };
        assert_eq!(bits(&whole), bits(&resumed));
    }

    #[test]
    fn a_state_of_another_job_is_refused() {
        let tensor = Tensor::new(&[0.3f32], &Device::Cpu).unwrap();
        let vars = vec![("a".to_owned(), Var::from_tensor(&tensor).unwrap())];
        let mut adam = AdamW::new(vars, OptimizerSettings::with_learning_rate(0.1));
        let reason = adam.restore(1, BTreeMap::new()).unwrap_err();
        assert!(reason.contains("`param.a` is missing"), "{reason}");
    }
}

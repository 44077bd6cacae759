//! Gradients of a list of variables: summed over micro-batches, measured, checked, clipped.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::TrainingError;

/// The sum of several backward passes, one slot per variable in the list's order.
#[derive(Debug, Clone)]
pub struct Gradients {
    slots: Vec<Option<Tensor>>,
}

impl Gradients {
    /// No gradient yet.
    pub fn new(count: usize) -> Self {
        Self {
            slots: vec![None; count],
        }
    }

    /// Adds what one backward pass found.
    pub fn add(&mut self, vars: &[(String, Var)], store: &GradStore) -> Result<(), TrainingError> {
        for (slot, (_, var)) in self.slots.iter_mut().zip(vars) {
            if let Some(gradient) = store.get(var) {
                let sum = match slot.take() {
                    Some(sum) => (sum + gradient)?,
                    None => gradient.clone(),
                };
                // Detached: the sum must not keep the passes' graphs alive.
                *slot = Some(sum.detach());
            }
        }
        Ok(())
    }

    /// Adds the sum of other passes.
    pub fn add_all(&mut self, other: Self) -> Result<(), TrainingError> {
        for (slot, more) in self.slots.iter_mut().zip(other.slots) {
            *slot = match (slot.take(), more) {
                (Some(sum), Some(more)) => Some((sum + more)?),
                (one, other) => one.or(other),
            };
        }
        Ok(())
    }

    /// The global L2 norm. Not finite if any element is not.
    pub fn norm(&self) -> Result<f64, TrainingError> {
        let mut squares = 0.0;
        for gradient in self.slots.iter().flatten() {
            squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        Ok(squares.sqrt())
    }

    /// Scales every gradient so that the global norm is at most `max`; returns the norm before.
    pub fn clip(&mut self, max: f64) -> Result<f64, TrainingError> {
        let norm = self.norm()?;
        // As torch's clip_grad_norm_, whose divisor carries 1e-6.
        let factor = max / (norm + 1e-6);
        if factor < 1.0 {
            for gradient in self.slots.iter_mut().flatten() {
                *gradient = (&*gradient * factor)?;
            }
        }
        Ok(norm)
    }

    /// One slot per variable; `None` where no pass reached it.
    pub fn slots(&self) -> &[Option<Tensor>] {
        &self.slots
    }

    /// Fails by name unless every variable received a finite gradient.
    pub fn self_check(&self, vars: &[(String, Var)]) -> Result<(), TrainingError> {
        let mut missing = Vec::new();
        for (slot, (name, _)) in self.slots.iter().zip(vars) {
            let finite = match slot {
                Some(gradient) => gradient.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite(),
                None => false,
            };
            if !finite {
                missing.push(name.clone());
            }
        }
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(TrainingError::SelfCheck {
                count: missing.len(),
                total: vars.len(),
                first: first.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn var(name: &str, values: &[f32]) -> (String, Var) {
        let tensor = Tensor::new(values, &Device::Cpu).unwrap();
        (name.into(), Var::from_tensor(&tensor).unwrap())
    }

    fn passes(vars: &[(String, Var)], count: usize) -> Gradients {
        let mut gradients = Gradients::new(vars.len());
        for _ in 0..count {
            let loss = vars[0].1.as_tensor().sqr().unwrap().sum_all().unwrap();
            gradients.add(vars, &loss.backward().unwrap()).unwrap();
        }
        gradients
    }

    #[test]
    fn passes_add_up_and_are_clipped_together() {
        let vars = [var("a", &[3.0, 4.0])];
        let mut gradients = passes(&vars, 2);
        // d(x^2) = 2x, twice: (12, 16), norm 20.
        assert!((gradients.clip(1.0).unwrap() - 20.0).abs() < 1e-5);
        assert!((gradients.norm().unwrap() - 1.0).abs() < 1e-6);
        let untouched = gradients.clone().clip(5.0).unwrap();
        assert!((untouched - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_variable_that_the_loss_does_not_reach_is_named() {
        let vars = [var("a", &[1.0]), var("b", &[1.0])];
        let message = passes(&vars, 1).self_check(&vars).unwrap_err().to_string();
        assert!(
            message.contains("1 of 2") && message.contains("`b`"),
            "{message}"
        );
        assert!(passes(&vars[..1], 1).self_check(&vars[..1]).is_ok());
    }

    #[test]
    fn a_gradient_that_is_not_finite_fails_the_check() {
        let vars = [var("a", &[f32::INFINITY])];
        assert!(passes(&vars, 1).self_check(&vars).is_err());
    }
}

//! Those who wait for a place: who lost theirs first, then the callers in turn.
//!
//! A caller with many requests waits as long for each as a caller with one.

use std::collections::VecDeque;

/// What waits, in the order in which it is to run.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    /// Who gave a place up for others, by age.
    returned: VecDeque<(u64, T)>,
    /// One queue a caller, none of them empty; the front one is next.
    callers: VecDeque<(u64, VecDeque<T>)>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self {
            returned: VecDeque::new(),
            callers: VecDeque::new(),
        }
    }
}

impl<T> Waiting<T> {
    /// Puts a request at the end of its caller's queue.
    pub(super) fn push(&mut self, caller: u64, item: T) {
        match self.callers.iter_mut().find(|(other, _)| *other == caller) {
            Some((_, queue)) => queue.push_back(item),
            None => self.callers.push_back((caller, VecDeque::from([item]))),
        }
    }

    /// Puts back what was running already: it goes before everyone who was not.
    pub(super) fn put_back(&mut self, age: u64, item: T) {
        let place = self.returned.partition_point(|(other, _)| *other < age);
        self.returned.insert(place, (age, item));
    }

    /// What comes next among those that are `ready`; who was never running always is.
    pub(super) fn peek(&mut self, ready: impl Fn(&T) -> bool) -> Option<&mut T> {
        let returned = self.returned.iter().position(|(_, item)| ready(item));
        match returned {
            Some(place) => self.returned.get_mut(place).map(|(_, item)| item),
            None => self.callers.front_mut()?.1.front_mut(),
        }
    }

    /// Takes what [`Waiting::peek`] shows. Its caller's turn comes again after everyone else's.
    pub(super) fn pop(&mut self, ready: impl Fn(&T) -> bool) -> Option<T> {
        if let Some(place) = self.returned.iter().position(|(_, item)| ready(item)) {
            return self.returned.remove(place).map(|(_, item)| item);
        }
        let (caller, mut queue) = self.callers.pop_front()?;
        let item = queue.pop_front();
        if !queue.is_empty() {
            self.callers.push_back((caller, queue));
        }
        item
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.returned.retain(|(_, item)| keep(item));
        for (_, queue) in &mut self.callers {
            queue.retain(&keep);
        }
        self.callers.retain(|(_, queue)| !queue.is_empty());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.returned.is_empty() && self.callers.is_empty()
    }

    /// Takes everything out, in no order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        let returned = std::mem::take(&mut self.returned);
        let callers = std::mem::take(&mut self.callers);
        let returned = returned.into_iter().map(|(_, item)| item);
        returned.chain(callers.into_iter().flat_map(|(_, queue)| queue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(waiting: &mut Waiting<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| {
            let shown = waiting.peek(|_| true).map(|item| *item);
            let popped = waiting.pop(|_| true);
            assert_eq!(shown, popped);
            popped
        })
        .collect()
    }

    #[test]
    fn callers_take_turns_and_each_is_served_in_order() {
        let mut waiting = Waiting::default();
        for (caller, item) in [
            (1, "a1"),
            (1, "a2"),
            (1, "a3"),
            (2, "b1"),
            (3, "c1"),
            (2, "b2"),
        ] {
            waiting.push(caller, item);
        }
        assert_eq!(order(&mut waiting), ["a1", "b1", "c1", "a2", "b2", "a3"]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn who_comes_while_others_are_served_waits_one_round_at_most() {
        let mut waiting = Waiting::default();
        for item in ["a1", "a2", "a3"] {
            waiting.push(1, item);
        }
        assert_eq!(waiting.pop(|_| true), Some("a1"));
        waiting.push(2, "b1");
        assert_eq!(order(&mut waiting), ["a2", "b1", "a3"]);
    }

    #[test]
    fn who_was_running_comes_first_by_age_once_ready() {
        let mut waiting = Waiting::default();
        waiting.push(1, "new");
        waiting.put_back(9, "younger");
        waiting.put_back(4, "older");
        assert_eq!(waiting.pop(|item| *item != "older"), Some("younger"));
        assert_eq!(waiting.pop(|item| *item != "older"), Some("new"));
        assert_eq!(waiting.pop(|item| *item != "older"), None);
        assert_eq!(order(&mut waiting), ["older"]);
    }

    #[test]
    fn who_gave_up_is_gone() {
        let mut waiting = Waiting::default();
        waiting.push(1, "a1");
        waiting.push(2, "b1");
        waiting.put_back(0, "r1");
        waiting.retain(|item| *item == "b1");
        assert_eq!(order(&mut waiting), ["b1"]);
        waiting.push(1, "a1");
        waiting.put_back(0, "r1");
        assert_eq!(waiting.drain().collect::<Vec<_>>(), ["r1", "a1"]);
        assert!(waiting.is_empty());
    }
}

//! Rules that can never decide, because an earlier one takes every request that they would.

use std::collections::HashMap;

use crate::classifier::Rule;
use crate::condition::{Condition, Steps};

/// With how many earlier rules a rule is compared. More could only be needed where thousands of rules begin alike.
const MOST: usize = 1_000;

/// The position of a subject, and a text that it is to be.
type Text = (usize, Box<[u8]>);

/// What a rule is to be kept under.
struct Kept {
    /// How many rules are kept under the commonest of the texts.
    most: usize,
    texts: Vec<Text>,
}

/// Finds the earlier rule that leaves nothing for a later one, without comparing each rule with each.
///
/// A rule that asks something to be one of certain texts can only take all of another's requests if the other asks for one of these texts, too: so
/// it is looked for under those. It is kept under the condition that tells it best from the rules before it. Rules that have no such condition are few, or
/// compared as far as [`MOST`]. All of it ends when the [`Steps`] do: then a rule that is never reached is not found out, and none is taken for one.
#[derive(Debug, Default)]
pub(super) struct Reach {
    by_text: HashMap<Text, Vec<usize>>,
    others: Vec<usize>,
}

impl Reach {
    /// The first of `rules` that holds wherever `rule` would, as far as is known. Then `rule` is added, at `rules.len()`.
    pub(super) fn earlier(
        &mut self,
        rules: &[Rule],
        rule: &Rule,
        steps: &mut Steps,
    ) -> Option<usize> {
        let is_sticky = rule.sticky.is_some();
        let rule = &rule.condition;
        if !steps.take(self.others.len() as u64) {
            return None;
        }
        let conjuncts = rule.conjuncts();
        let mut best: Option<Kept> = None;
        let mut candidates: Vec<usize> = self.others.clone();
        for conjunct in conjuncts {
            let Condition::Is(subject, test) = conjunct else {
                continue;
            };
            let Some(texts) = test.texts() else { continue };
            let texts: Vec<Text> = texts.map(|text| (*subject, text.into())).collect();
            let found = |text: &Text| self.by_text.get(text);
            // The same in whatever order a set has them, and so as many steps.
            if let Some(same) = texts.iter().min().and_then(found) {
                let same = same.iter().take(MOST);
                if !steps.take(same.len() as u64) {
                    return None;
                }
                candidates.extend(same);
            }
            let most = texts
                .iter()
                .filter_map(found)
                .map(Vec::len)
                .max()
                .unwrap_or(0);
            // Each text is kept, so a long list is not.
            if texts.len() <= 64 && best.as_ref().is_none_or(|best| most < best.most) {
                best = Some(Kept { most, texts });
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        let takes_all = |position: &usize, steps: &mut Steps| {
            let earlier = rules.get(*position);
            earlier.is_some_and(|earlier| rule.implies(&earlier.condition, steps))
        };
        let earlier = steps.for_rule(is_sticky, |steps| {
            let mut candidates = candidates.into_iter();
            candidates.find(|position| takes_all(position, steps))
        });
        match best {
            Some(Kept { texts, .. }) => {
                for text in texts {
                    self.by_text.entry(text).or_default().push(rules.len());
                }
            }
            None if self.others.len() < MOST => self.others.push(rules.len()),
            None => {}
        }
        earlier
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::Outputs;
    use crate::condition::Test;
    use tollgate_common::StringMatch;

    /// Conditions within conditions, `all` and `any` in turn, each of two, and prefixes at the bottom that nothing else begins with.
    fn nested(rule: usize, depth: usize, within_all: bool) -> Condition {
        if depth == 0 {
            let prefix = format!("{rule}-");
            return Condition::Is(0, Test::Pattern(StringMatch::Prefix(prefix)));
        }
        let inner = || nested(rule, depth - 1, !within_all);
        let both = vec![inner(), inner()];
        match within_all {
            true => Condition::All(both),
            false => Condition::Any(both),
        }
    }

    fn rule(condition: Condition) -> Rule {
        Rule {
            user_type: "vip".to_owned(),
            condition,
            outputs: Outputs::default(),
            sticky: None,
        }
    }

    /// How many steps it takes to compare each of these rules with those before it, of at most `most`.
    fn taken(rules: &[Rule], most: u64) -> u64 {
        let mut steps = Steps::of(most);
        let mut reach = Reach::default();
        for (position, rule) in rules.iter().enumerate() {
            let (before, _) = rules.split_at(position);
            assert_eq!(reach.earlier(before, rule, &mut steps), None, "{position}");
        }
        most - steps.left()
    }

    #[test]
    fn nested_conditions_are_compared_in_bounded_steps() {
        // 63 conditions a rule, of the 64 that it may have.
        let rules = |count: usize| -> Vec<Rule> {
            (0..count).map(|i| rule(nested(i, 5, i % 2 == 0))).collect()
        };
        // Without a bound, two of them take hundreds, and ten thousand would be fifty million pairs.
        let pair = taken(&rules(2), u64::MAX);
        let few = taken(&rules(40), u64::MAX);
        assert!(pair > 400 && few > 1_000 * pair, "{pair} {few}");
        let most = Steps::default().left();
        assert_eq!(taken(&rules(10_000), most), most);
    }

    #[test]
    fn ten_thousand_rules_on_ids_take_few_steps() {
        let get = || Condition::Is(1, Test::Exact(b"GET"[..].into()));
        let of_id = |i: usize| {
            let id = format!("u{i}").into_bytes();
            rule(Condition::All(vec![
                get(),
                Condition::Is(0, Test::Exact(id.into())),
            ]))
        };
        let rules: Vec<Rule> = (0..10_000).map(of_id).collect();
        let taken = taken(&rules, u64::MAX);
        assert!(taken < 200_000, "{taken}");
    }

    #[test]
    fn what_there_are_no_steps_for_is_not_claimed() {
        let is = |text: &str| rule(Condition::Is(0, Test::Exact(text.as_bytes().into())));
        for (most, expected) in [(100, Some(0)), (1, None), (0, None)] {
            let mut steps = Steps::of(most);
            let mut reach = Reach::default();
            assert_eq!(reach.earlier(&[], &is("a"), &mut steps), None);
            assert_eq!(
                reach.earlier(&[is("a")], &is("a"), &mut steps),
                expected,
                "{most}"
            );
        }
    }
}

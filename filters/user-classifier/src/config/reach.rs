//! Rules that can never decide, because an earlier one takes every request that they would.

use std::collections::HashMap;

use crate::classifier::Rule;
use crate::condition::Condition;

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
/// compared as far as [`MOST`].
#[derive(Debug, Default)]
pub(super) struct Reach {
    by_text: HashMap<Text, Vec<usize>>,
    others: Vec<usize>,
}

impl Reach {
    /// The first of `rules` that holds wherever `rule` would, as far as is known. Then `rule` is added, at `rules.len()`.
    pub(super) fn earlier(&mut self, rules: &[Rule], rule: &Condition) -> Option<usize> {
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
            if let Some(same) = texts.first().and_then(found) {
                candidates.extend(same.iter().take(MOST));
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
        let earlier = candidates.into_iter().find(|position| {
            rules
                .get(*position)
                .is_some_and(|earlier| rule.implies(&earlier.condition))
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

//! What is tried: every combination of lists, or draws that depend on the seed, the number of the draw and the setting's
//! name alone, so that more draws and more settings leave the others as they are.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use toml::{Table, Value};

use super::file::Sweep;
use crate::{plan::Settings, report::svg::plain, sampler::SplitMix};

/// Draws in a row that give nothing new: what is left of a finite number of combinations is then taken as it comes.
const IN_VAIN: usize = 1000;

#[derive(Clone, Debug)]
enum Values {
    List(Vec<Value>),
    Range {
        low: f64,
        high: f64,
        log: bool,
        whole: bool,
    },
}

/// The values of each trial.
pub fn expand(sweep: &Sweep) -> Result<Vec<Table>> {
    let read = |(name, value): (&String, &Value)| {
        let values = values(name, value);
        let values = values.with_context(|| format!("[search] {name}"))?;
        Ok((name.clone(), values))
    };
    let space = sweep.search.iter().map(read).collect::<Result<Vec<_>>>()?;
    match sweep.trials {
        Some(trials) => draws(&space, sweep.seed, trials),
        None => grid(&space),
    }
}

/// Settings that say nothing but these.
pub fn settings(tried: &Table) -> Result<Settings> {
    Ok(tried.clone().try_into()?)
}

/// `lr = 0.001, seed = 2`
pub fn named(tried: &Table) -> String {
    let one = |(name, value): (&String, &Value)| format!("{name} = {}", shown(value));
    tried.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// For people; what a trial is told apart by is the value itself.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Float(number) => plain(*number),
        other => other.to_string(),
    }
}

fn values(name: &str, value: &Value) -> Result<Values> {
    let values = match value {
        Value::Array(list) => {
            ensure!(!list.is_empty(), "the list is empty");
            for (i, value) in list.iter().enumerate() {
                ensure!(
                    !list[..i].contains(value),
                    "{} stands twice in the list",
                    shown(value)
                );
            }
            Values::List(list.clone())
        }
        Value::Table(table) => range(table)?,
        _ => bail!(
            "give a list such as [1, 2], or a range {{ log = [LOW, HIGH] }} or {{ linear = [LOW, HIGH] }}"
        ),
    };
    let ends = match &values {
        Values::List(list) => list.clone(),
        &Values::Range {
            low, high, whole, ..
        } => [low, high].map(|end| number(end, whole)).into(),
    };
    for end in ends {
        settings(&Table::from_iter([(name.to_string(), end)]))?;
    }
    Ok(values)
}

fn range(table: &Table) -> Result<Values> {
    let form = "a range is { log = [LOW, HIGH] } or { linear = [LOW, HIGH] }";
    let mut entries = table.iter();
    let (Some((kind, Value::Array(ends))), None) = (entries.next(), entries.next()) else {
        bail!("{form}");
    };
    let number = |value: &Value| {
        value
            .as_float()
            .or(value.as_integer().map(|whole| whole as f64))
    };
    let (Some([low, high]), true) = (
        ends.iter()
            .map(number)
            .collect::<Option<Vec<f64>>>()
            .and_then(|ends| <[f64; 2]>::try_from(ends).ok()),
        kind == "log" || kind == "linear",
    ) else {
        bail!("{form}");
    };
    let log = kind == "log";
    ensure!(low < high && high.is_finite(), "LOW must be below HIGH");
    ensure!(!log || low > 0.0, "LOW of a log range must be above 0");
    let whole = ends.iter().all(Value::is_integer);
    Ok(Values::Range {
        low,
        high,
        log,
        whole,
    })
}

fn number(value: f64, whole: bool) -> Value {
    match whole {
        true => Value::Integer(value as i64),
        false => Value::Float(value),
    }
}

/// The last setting changes first.
fn grid(space: &[(String, Values)]) -> Result<Vec<Table>> {
    let mut trials = vec![Table::new()];
    for (name, values) in space {
        let Values::List(list) = values else {
            bail!(
                "[search] {name}: a range can only be drawn from; give a list, or trials with random or halving"
            );
        };
        let with = |trial: &Table, value: &Value| {
            let mut trial = trial.clone();
            trial.insert(name.clone(), value.clone());
            trial
        };
        trials = trials
            .iter()
            .flat_map(|trial| list.iter().map(move |value| with(trial, value)))
            .collect();
    }
    Ok(trials)
}

fn draws(space: &[(String, Values)], seed: u64, count: usize) -> Result<Vec<Table>> {
    let all = combinations(space);
    ensure!(
        all.is_none_or(|all| count as u128 <= all),
        "trials = {count}, but [search] gives only {} combinations: lower it, or take method grid",
        all.unwrap_or(0)
    );
    let (mut trials, mut number, mut vain) = (Vec::new(), 0, 0);
    let mut drawn = BTreeSet::new();
    while trials.len() < count {
        let tried = draw(space, seed, number);
        (number, vain) = (number + 1, vain + 1);
        if drawn.insert(tried.to_string()) {
            trials.push(tried);
            vain = 0;
        }
        if vain == IN_VAIN {
            ensure!(
                all.is_some(),
                "trials = {count}, but {IN_VAIN} draws gave nothing new after {}: widen a range, or lower it",
                trials.len()
            );
            let mut rest = the_rest(space, seed, &drawn)?;
            rest.truncate(count - trials.len());
            trials.extend(rest);
        }
    }
    Ok(trials)
}

/// How many there are; none where a range is of fractions.
fn combinations(space: &[(String, Values)]) -> Option<u128> {
    let one = |values: &Values| match values {
        Values::List(list) => Some(list.len() as u128),
        Values::Range {
            low, high, whole, ..
        } => whole.then(|| (high - low) as u128 + 1),
    };
    let counts = space.iter().map(|(_, values)| one(values));
    counts.reduce(|a, b| a?.checked_mul(b?)).flatten()
}

/// The combinations that no draw gave, in an order that follows the seed.
fn the_rest(space: &[(String, Values)], seed: u64, drawn: &BTreeSet<String>) -> Result<Vec<Table>> {
    let listed = |values: &Values| match values {
        &Values::Range { low, high, .. } => {
            let all = low as i64..=high as i64;
            Values::List(all.map(Value::Integer).collect())
        }
        list => list.clone(),
    };
    let lists: Vec<_> = space
        .iter()
        .map(|(name, values)| (name.clone(), listed(values)))
        .collect();
    let mut rest = grid(&lists)?;
    rest.retain(|tried| !drawn.contains(&tried.to_string()));
    // Fisher & Yates.
    let mut random = SplitMix::keyed(&[seed]);
    for last in (1..rest.len()).rev() {
        rest.swap(last, random.below(last as u64 + 1) as usize);
    }
    Ok(rest)
}

fn draw(space: &[(String, Values)], seed: u64, number: u64) -> Table {
    let one = |(name, values): &(String, Values)| {
        let keys: Vec<u64> = [seed, number]
            .into_iter()
            .chain(name.bytes().map(u64::from))
            .collect();
        let mut random = SplitMix::keyed(&keys);
        let value = match values {
            Values::List(list) => list[random.below(list.len() as u64) as usize].clone(),
            &Values::Range {
                low,
                high,
                log,
                whole,
            } => {
                // The 53 bits of an f64, in 0..1.
                let part = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
                // Of whole numbers the last has as much room as the others.
                let end = if whole { high + 1.0 } else { high };
                let value = match log {
                    true => (low.ln() + part * (end / low).ln()).exp(),
                    false => low + part * (end - low),
                };
                let value = if whole {
                    value.floor()
                } else {
                    four_digits(value)
                };
                self::number(value.clamp(low, high), whole)
            }
        };
        (name.clone(), value)
    };
    space.iter().map(one).collect()
}

/// As people write numbers; the rest would be noise in tables.
fn four_digits(value: f64) -> f64 {
    format!("{value:.3e}")
        .parse()
        .expect("a number it wrote itself")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trials(text: &str) -> Result<Vec<Table>> {
        expand(&toml::from_str(text).unwrap())
    }

    #[test]
    fn a_grid_is_every_combination() {
        let found = trials("method = \"grid\"\n[search]\nlr = [0.1, 0.2]\narch = [\"unet\", \"cnn\"]\nseed = [1, 2, 3]").unwrap();
        assert_eq!(found.len(), 12);
        assert_eq!(named(&found[0]), "arch = unet, lr = 0.1, seed = 1");
        assert_eq!(named(&found[1]), "arch = unet, lr = 0.1, seed = 2");
        assert_eq!(named(&found[11]), "arch = cnn, lr = 0.2, seed = 3");
        let err = trials("method = \"grid\"\n[search]\nlr = { log = [0.1, 0.2] }").unwrap_err();
        assert!(err.to_string().contains("only be drawn from"), "{err}");
    }

    #[test]
    fn long_numbers_are_shown_with_an_exponent() {
        for (value, said) in [
            (1e30, "1e30"),
            (-2.5e6, "-2.5e6"),
            (999999.5, "999999.5"),
            (0.002154, "0.002154"),
            (1e-4, "0.0001"),
            (2.154e-5, "2.154e-5"),
            (0.0, "0"),
        ] {
            assert_eq!(shown(&Value::Float(value)), said);
        }
        assert_eq!(shown(&Value::Integer(12345678)), "12345678");
    }

    #[test]
    fn draws_follow_the_seed_and_more_of_them_leave_the_first_alone() {
        let text = |trials: usize, seed: u64, more: &str| {
            format!(
                "method = \"random\"\ntrials = {trials}\nseed = {seed}\n[search]\nlr = {{ log = [1e-4, 1e-2] }}\n\
                 clip_norm = {{ linear = [0.5, 2.0] }}\nshift = {{ linear = [0, 3] }}\n{more}"
            )
        };
        let few = trials(&text(50, 1, "")).unwrap();
        assert_eq!(few, trials(&text(200, 1, "")).unwrap()[..50]);
        assert_ne!(few, trials(&text(50, 2, "")).unwrap());
        let mut wider = trials(&text(50, 1, "seed = [1, 2]")).unwrap();
        assert!(wider.iter_mut().all(|of| of.remove("seed").is_some()));
        assert_eq!(few, wider);
        let of = |name: &str| few.iter().map(|of| of[name].clone()).collect::<Vec<_>>();
        let rates: Vec<f64> = of("lr")
            .iter()
            .map(|rate| rate.as_float().unwrap())
            .collect();
        assert!(rates.iter().all(|rate| (1e-4..=1e-2).contains(rate)));
        // Half of a log range lies below its geometric mean.
        let low = rates.iter().filter(|&&rate| rate < 1e-3).count();
        assert!((15..=35).contains(&low), "{low}");
        for whole in 0..=3 {
            assert!(of("shift").contains(&Value::Integer(whole)), "{whole}");
        }
        assert!(few[0]["clip_norm"].to_string().len() <= 6, "{}", few[0]);
    }

    #[test]
    fn lists_give_no_combination_twice_and_no_more_than_there_are() {
        let text = |trials: usize| {
            format!(
                "method = \"random\"\ntrials = {trials}\n[search]\nlr = [0.1, 0.2]\nseed = [1, 2, 3]"
            )
        };
        let mut all = trials(&text(6)).unwrap();
        all.sort_by_key(named);
        all.dedup();
        assert_eq!(all.len(), 6);
        let err = trials(&text(7)).unwrap_err().to_string();
        assert!(err.contains("only 6 combinations"), "{err}");
    }

    #[test]
    fn the_last_of_many_combinations_are_found_too() {
        // The last of 3,000 is drawn once in 3,000 draws.
        let text = |trials: usize| {
            format!(
                "method = \"random\"\ntrials = {trials}\n[search]\nshift = {{ linear = [0, 99] }}\n\
                 keep = {{ linear = [1, 10] }}\nseed = [1, 2, 3]"
            )
        };
        let all = trials(&text(3000)).unwrap();
        let names: BTreeSet<String> = all.iter().map(named).collect();
        assert_eq!(names.len(), 3000);
        assert_eq!(trials(&text(2990)).unwrap(), all[..2990]);
        let err = trials(&text(3001)).unwrap_err().to_string();
        assert!(err.contains("only 3000 combinations"), "{err}");
        let few = "method = \"random\"\ntrials = 50\n[search]\nlr = { linear = [0.1001, 0.1003] }";
        let err = trials(few).unwrap_err().to_string();
        assert!(err.contains("gave nothing new after 3"), "{err}");
    }

    #[test]
    fn what_is_no_setting_or_no_value_of_one_is_named() {
        for (line, said) in [
            ("lrr = [0.1]", "unknown field `lrr`"),
            ("seed = [\"one\"]", "[search] seed"),
            ("seed = [1, 1]", "1 stands twice"),
            ("lr = 0.1", "give a list"),
            ("lr = []", "empty"),
            ("lr = { log = [0, 1] }", "above 0"),
            ("lr = { log = [1, 0.1] }", "LOW must be below HIGH"),
            ("lr = { normal = [0.1, 1] }", "a range is"),
            ("batch = { linear = [0.5, 8] }", "[search] batch"),
        ] {
            let err = trials(&format!(
                "method = \"random\"\ntrials = 1\n[search]\n{line}"
            ))
            .unwrap_err();
            assert!(format!("{err:#}").contains(said), "{line}: {err:#}");
        }
    }
}

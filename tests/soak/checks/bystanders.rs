//! While nothing fails, no request of an ordinary client fails, whatever another account does.

use crate::history::{History, Outcome};

pub fn check(history: &History) -> Vec<String> {
    if !history.faults.is_empty() {
        return Vec::new();
    }
    let failed = history.calls.iter().filter_map(|call| match &call.outcome {
        Outcome::Unknown(why) => Some((call, why.as_str())),
        Outcome::Limited if call.counted.is_none() => Some((call, "429")),
        _ => None,
    });
    failed
        .map(|(call, why)| format!("{} at {:?}, {:?}: {why}", call.client, call.begun, call.intent))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, done, history, redis_killed, unknown};
    use super::*;
    use crate::history::Intent;

    #[test]
    fn a_failure_without_a_fault_is_found() {
        let failed = || call(0, 10, Intent::ReadAll, unknown());
        assert!(check(&history(vec![call(0, 10, Intent::ReadAll, done())])).is_empty());
        assert_eq!(check(&history(vec![failed()])).len(), 1);
        assert_eq!(check(&history(vec![call(0, 10, Intent::ReadAll, Outcome::Limited)])).len(), 1);
        let with_fault = History { faults: vec![redis_killed(5)], ..history(vec![failed()]) };
        assert!(check(&with_fault).is_empty());
    }
}

//! Subscribers: each receives every event of its circle once and in order, or is told that its history has ended. It is told so only
//! where Redis has lost its data.

use optimist_tests::wandering::judge;

use crate::history::History;

pub fn check(history: &History) -> Vec<String> {
    let finals = &history.finals;
    let mut found = Vec::new();
    for (name, record) in &finals.subscribed {
        if !record.breaks.is_empty() && history.loss().is_none() {
            found.push(format!("{name}: it was told that its history had ended, and it had not"));
        }
        let wrong = judge(record, &finals.posted);
        found.extend(wrong.map(|what| format!("{name}: {what}; refused {:?}", record.refused)));
    }
    found
}

#[cfg(test)]
mod tests {
    use optimist_tests::wandering::Record;

    use super::super::testing::{history, redis_killed};
    use super::*;
    use crate::history::Finals;

    fn texts(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn with(ids: &[&str], breaks: &[usize]) -> History {
        let record = Record { ids: texts(ids), breaks: breaks.to_vec(), ..Record::default() };
        let finals = Finals {
            posted: texts(&["1.9-1", "1.10-2", "1.11-3"]),
            subscribed: vec![("somebody".to_owned(), record)],
            ..Finals::default()
        };
        History { finals, ..history(Vec::new()) }
    }

    #[test]
    fn a_gap_and_a_repetition_are_found() {
        assert!(check(&with(&["1.9-1", "1.10-2", "1.11-3"], &[])).is_empty());
        assert_eq!(check(&with(&["1.9-1", "1.11-3"], &[])).len(), 1);
        assert_eq!(check(&with(&["1.9-1", "1.10-2", "1.10-2", "1.11-3"], &[])).len(), 1);
        assert_eq!(check(&with(&["1.9-1"], &[])).len(), 1, "the end is missing");
    }

    #[test]
    fn a_history_ends_only_where_redis_has_lost_its_data() {
        let mut told = with(&["1.9-1", "1.11-3"], &[1]);
        assert_eq!(check(&told).len(), 1);
        told.faults = vec![redis_killed(1)];
        assert_eq!(check(&told).len(), 1, "it was restarted");
        told.faults[0].loses_redis = true;
        assert!(check(&told).is_empty());
    }
}

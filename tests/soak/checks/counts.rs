//! Counts equal the rows that they count: reactions, notified reactions, members, unread notifications; in Postgres and
//! as clients see them.

use crate::history::History;

pub fn check(history: &History) -> Vec<String> {
    let finals = &history.finals;
    let mut found = finals.counts.differences(&finals.on);
    for (what, is, should_be) in &finals.sums {
        if is != should_be {
            found.push(format!("{what}: {is}, and it should be {should_be}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use optimist_tests::crowd::{Counts, Place};

    use super::super::testing::history;
    use super::*;
    use crate::history::Finals;

    fn one_on(stored: u64, seen: u64) -> History {
        let counted = |number| [(("m".to_owned(), 1), number)].into_iter().collect();
        let counts = Counts { stored: counted(stored), seen: counted(seen), ..Counts::default() };
        let place = Place { message: "m".to_owned(), kind: 1, user: "u".to_owned() };
        let on = [place].into_iter().collect();
        let told = [(("m".to_owned(), 0), 1)].into_iter().collect();
        let finals = Finals { on, counts: Counts { told, ..counts }, ..Finals::default() };
        History { finals, ..history(Vec::new()) }
    }

    #[test]
    fn a_count_that_is_not_its_rows_is_found() {
        assert_eq!(check(&one_on(1, 1)), Vec::<String>::new());
        assert_eq!(check(&one_on(2, 1)).len(), 1, "in Postgres");
        assert_eq!(check(&one_on(1, 0)).len(), 1, "as clients see it");
        let mut untold = one_on(1, 1);
        untold.finals.counts.told.clear();
        assert_eq!(check(&untold).len(), 1, "as the author is told");
    }

    #[test]
    fn a_sum_that_is_another_is_found() {
        let mut with_sum = one_on(1, 1);
        with_sum.finals.sums = vec![("members".to_owned(), 3, 3)];
        assert!(check(&with_sum).is_empty());
        with_sum.finals.sums = vec![("members".to_owned(), 4, 3)];
        assert_eq!(check(&with_sum).len(), 1);
    }
}

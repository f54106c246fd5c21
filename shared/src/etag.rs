//! Entity tags: `"<row version>.<overlay version>"`. Conditions compare whole tags, except for values whose overlay changes without
//! a change of the row. What is counted beside a row follows its version behind a tilde, and is no version of it.

/// The tag of an answer, from the row's version and the version of its overlays (empty without overlays).
pub fn entity_tag(row_version: &str, overlay_version: &str) -> String {
    format!("\"{row_version}.{overlay_version}\"")
}

/// Whether `If-None-Match` names this tag, by weak comparison (RFC 9110, 13.1.2).
pub fn none_match_hits(header: &str, tag: &str) -> bool {
    header.trim() == "*" || tags(header).any(|candidate| candidate == tag.trim_start_matches("W/"))
}

/// Whether `If-Match` allows a change of what has this tag. A tag that a proxy has weakened, as it does when it compresses an
/// answer, still names its version.
pub fn match_allows(header: &str, tag: &str) -> bool {
    header.trim() == "*" || tags(header).any(|named| named == tag)
}

/// Whether `If-Match` allows a change of the row at `version`, whichever overlay it was shown with.
pub fn match_allows_row(header: &str, version: &str) -> bool {
    let is_of_row = |tag: &str| {
        let inner = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let shown = inner.and_then(|inner| inner.rsplit_once('.')).map(|(row, _)| row);
        shown.is_some_and(|shown| match shown.split_once('~') {
            Some((row, count)) => row == version && count.bytes().all(|byte| byte.is_ascii_digit()),
            None => shown == version,
        })
    };
    header.trim() == "*" || tags(header).any(is_of_row)
}

fn tags(header: &str) -> impl Iterator<Item = &str> {
    header.split(',').map(|tag| tag.trim().trim_start_matches("W/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_tag_is_found_among_others_and_no_other_is(
            row in "[0-9]{1,6}|[0-9a-f]{16}",
            overlay in "[a-z0-9]{0,8}",
            others in "(W/)?\"[0-9]{1,6}[.][A-Z]{1,4}\"( ?, ?\"[0-9]{1,6}[.][A-Z]{1,4}\"){0,3}",
            noise in "\\PC*",
        ) {
            let tag = entity_tag(&row, &overlay);
            let listed = format!("{others}, W/{tag}");
            prop_assert!(none_match_hits(&tag, &tag) && none_match_hits(&listed, &tag));
            prop_assert!(match_allows(&tag, &tag) && match_allows(&listed, &tag));
            prop_assert!(match_allows_row(&tag, &row) && match_allows_row(&listed, &row));
            prop_assert!(!none_match_hits(&others, &tag) && !match_allows(&others, &tag));
            // Noise hits only by naming the whole tag.
            prop_assert!(!none_match_hits(&noise, &tag) || noise.contains(&tag) || noise.trim() == "*");
            prop_assert!(!match_allows(&noise, &tag) || noise.contains(&tag) || noise.trim() == "*");
            prop_assert!(!match_allows_row(&noise, &row) || noise.contains(&row) || noise.trim() == "*");
        }
    }

    #[test]
    fn none_match_compares_whole_tags() {
        let tag = entity_tag("7", "member");
        assert_eq!(tag, "\"7.member\"");
        assert!(none_match_hits("\"6.member\", W/\"7.member\"", &tag));
        assert!(none_match_hits("*", &tag));
        assert!(!none_match_hits("\"7.owner\"", &tag));
    }

    #[test]
    fn match_compares_whole_tags() {
        for named in ["\"7.(ada)\"", "\"6.\", \"7.(ada)\"", "W/\"7.(ada)\"", " * "] {
            assert!(match_allows(named, "\"7.(ada)\""), "{named}");
        }
        for other in ["\"7.(bo)\"", "\"7.\"", "\"7\"", "7.(ada)", "\"7.(ada).x\"", ""] {
            assert!(!match_allows(other, "\"7.(ada)\""), "{other}");
        }
    }

    #[test]
    fn match_of_a_row_leaves_the_overlay_out() {
        for named in ["\"7.member\"", "\"7.\"", "W/\"7.x\"", "\"7~3.x\"", "*"] {
            assert!(match_allows_row(named, "7"), "{named}");
        }
        for other in
            ["\"70.member\"", "\"7\"", "7.member", "\"7.a.b\"", "\"70~7.b\"", "\"7~3\"", "\"7~3.x.x\"", ""]
        {
            assert!(!match_allows_row(other, "7"), "{other}");
        }
    }
}

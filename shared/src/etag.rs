//! Entity tags: `"<row version>.<overlay version>"`. `If-None-Match` compares the whole tag, `If-Match` the row version.

/// The tag of an answer, from the row's version and the version of its overlays (empty without overlays).
pub fn entity_tag(row_version: &str, overlay_version: &str) -> String {
    format!("\"{row_version}.{overlay_version}\"")
}

/// Whether `If-None-Match` names this tag, by weak comparison (RFC 9110, 13.1.2).
pub fn none_match_hits(header: &str, tag: &str) -> bool {
    header.trim() == "*" || tags(header).any(|candidate| candidate == tag.trim_start_matches("W/"))
}

/// Whether `If-Match` allows a change of the row at `version`. A change cannot lose overlays, so they do not count.
pub fn match_allows(header: &str, version: &str) -> bool {
    header.trim() == "*"
        || tags(header).any(|tag| {
            let inner = tag.trim_matches('"');
            inner.split_once('.').map_or(inner, |(row, _)| row) == version
        })
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
            prop_assert!(match_allows(&tag, &row) && match_allows(&listed, &row));
            prop_assert!(!none_match_hits(&others, &tag));
            // Noise hits only by naming the whole tag.
            prop_assert!(!none_match_hits(&noise, &tag) || noise.contains(&tag) || noise.trim() == "*");
            prop_assert!(!match_allows(&noise, &row) || noise.contains(&row) || noise.trim() == "*");
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
    fn match_compares_row_versions() {
        assert!(match_allows("\"7.member\"", "7"));
        assert!(match_allows("\"7.\"", "7"));
        assert!(match_allows("*", "7"));
        assert!(!match_allows("\"70.member\"", "7"));
    }
}

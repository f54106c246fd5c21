//! Replies as Redis writes them, split at any point, and bytes that are no replies.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A reply, and the bytes that Redis writes for it.
fn replies() -> impl Strategy<Value = (Reply, Vec<u8>)> {
    let value = prop_oneof![
        Just((Value::Nil, b"$-1\r\n".to_vec())),
        any::<i64>().prop_map(|number| (Value::Int(number), format!(":{number}\r\n").into_bytes())),
        "[A-Za-z ]{0,12}"
            .prop_map(|text| (Value::Bytes(text.clone().into_bytes()), format!("+{text}\r\n").into_bytes())),
        vec(any::<u8>(), 0..40).prop_map(|bytes| {
            let written = [format!("${}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
            (Value::Bytes(bytes), written)
        }),
    ];
    prop_oneof![
        "[A-Z]{2,8} [a-z ]{0,12}".prop_map(|text| (Err(text.clone()), format!("-{text}\r\n").into_bytes())),
        value.clone().prop_map(|(value, written)| (Ok(vec![value]), written)),
        vec(value, 0..6).prop_map(|items| {
            let mut written = format!("*{}\r\n", items.len()).into_bytes();
            items.iter().for_each(|(_, bytes)| written.extend_from_slice(bytes));
            (Ok(items.into_iter().map(|(value, _)| value).collect()), written)
        }),
    ]
}

proptest! {
    #[test]
    fn replies_are_read_as_they_were_written(replies in vec(replies(), 0..6), more in 1..4usize) {
        let written = replies.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<u8>>();
        let expected: Vec<Reply> = replies.into_iter().map(|(reply, _)| reply).collect();
        let count = expected.len();
        prop_assert_eq!(decode(Bytes::from(written.clone()), count), Some(expected));
        prop_assert_eq!(decode(Bytes::from(written.clone()), count + more), None);
        if count > 0 {
            prop_assert_eq!(decode(Bytes::from(written), count - 1), None);
        }
    }

    /// Each request gets the bytes of its own replies, once all of them have arrived.
    #[test]
    fn batches_end_where_their_replies_do(batches in vec(vec(replies(), 1..4), 1..4), piece in 1..40usize) {
        let lengths: Vec<(usize, usize)> = batches
            .iter()
            .map(|batch| (batch.len(), batch.iter().map(|(_, bytes)| bytes.len()).sum()))
            .collect();
        let written: Vec<u8> = batches.into_iter().flatten().flat_map(|(_, bytes)| bytes).collect();
        let (mut buffer, mut found, mut batch) = (Vec::new(), Vec::new(), Batch::default());
        for piece in written.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some((replies, length)) = lengths.get(found.len()) {
                let Some(whole) = batch.whole(&buffer, *replies).unwrap() else {
                    prop_assert!(buffer.len() < *length);
                    break;
                };
                found.push((*replies, whole));
                buffer.drain(..whole);
            }
        }
        prop_assert_eq!(found, lengths);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn whatever_comes_is_replies_or_refused(
        mut bytes in prop_oneof![
            vec(any::<u8>(), 0..120),
            "([*$:+-][-0-9]{0,10}\r?\n?[a-z]{0,4}){0,12}".prop_map(String::into_bytes),
        ],
        flood in any::<bool>(),
        expected in 0..5usize,
    ) {
        if flood {
            // Announced lengths without bytes must cost no memory.
            bytes.splice(..0, *b"*1999999999\r\n$1999999999\r\n");
        }
        if let Ok(Some(First { length, .. })) = first(&bytes) {
            prop_assert!(length > 0 && length <= bytes.len());
        }
        if let Ok(Some(length)) = Batch::default().whole(&bytes, expected) {
            prop_assert!(length <= bytes.len());
            prop_assert!(decode(Bytes::copy_from_slice(&bytes[..length]), expected).is_some());
        }
        prop_assert!(decode(Bytes::from(bytes), expected).is_none_or(|replies| replies.len() == expected));
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings(words in vec(vec(vec(any::<u8>(), 0..20), 1..5), 0..4)) {
        let commands: Vec<Command> = words.iter().cloned().map(Command).collect();
        let bytes = encode(&commands);
        let values = |words: Vec<Vec<u8>>| Ok(words.into_iter().map(Value::Bytes).collect());
        let count = words.len();
        prop_assert_eq!(decode(Bytes::from(bytes), count), Some(words.into_iter().map(values).collect()));
    }
}

#[test]
fn an_error_at_the_front_is_told() {
    let error = Some("WRONGPASS no".to_owned());
    assert_eq!(first(b"-WRONGPASS no\r\n+OK\r\n"), Ok(Some(First { length: 15, error })));
    assert_eq!(first(b"+OK\r\n-ERR\r\n"), Ok(Some(First { length: 5, error: None })));
    assert_eq!(first(b"+O"), Ok(None));
    assert!(first(b"!").is_err());
}

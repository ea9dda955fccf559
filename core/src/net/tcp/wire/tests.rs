use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::net::conformance::{hub, node};

fn split_all(lane: Lane, bytes: &[u8]) -> Result<Vec<Frame>, Malformed> {
    let mut buffer = BytesMut::from(bytes);
    let mut splitter = Splitter::new(lane);
    let mut frames = Vec::new();
    while let Ok(frame) = splitter.next(&mut buffer)? {
        frames.push(frame);
    }
    Ok(frames)
}

fn sample(seq: u64, payload: Vec<u8>) -> Numbered {
    Numbered { seq, channel: hub("orders"), bytes: payload.into() }
}

#[test]
fn greeting_layout_is_the_documented_one() {
    let greeting = Greeting {
        lane: Lane::Bulk,
        has_key: true,
        nonce: [5; NONCE_BYTES],
        node: node("ab", 0x0102),
        address: "h:1".to_owned(),
    };
    let mut expected = b"\x89PHUB\r\n\x1a\x00\x01\x00\x01\x00\x32\x01\x01".to_vec();
    expected.extend([5; 32]);
    expected.extend([0, 0, 0, 0, 0, 0, 1, 2]);
    expected.extend(b"\x02ab\x00\x03h:1");
    assert_eq!(greeting.encode(), expected);
    expected.extend(b"for later versions");
    assert_eq!(Greeting::decode(&expected[GREETING_HEAD_BYTES..]), Ok(greeting));
}

#[test]
fn frame_layout_is_the_documented_one() {
    let mut bytes = BytesMut::new();
    put_data_head(&mut bytes, &sample(3, b"xy".to_vec()), 4);
    bytes.extend_from_slice(b"xy");
    put_swim_head(&mut bytes, 1);
    bytes.extend_from_slice(b"z");
    put_acknowledgement(&mut bytes, 5);
    put_goodbye(&mut bytes);
    let expected = b"\0\0\0\x1a\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\x06ordersxy\
        \0\0\0\x02\x02z\0\0\0\x09\x03\0\0\0\0\0\0\0\x05\0\0\0\x01\x04";
    assert_eq!(&bytes[..], expected);
    let frames = split_all(Lane::Ctl, expected).unwrap();
    assert_eq!(
        frames,
        [
            Frame::Data { acknowledged: 4, frame: sample(3, b"xy".to_vec()) },
            Frame::Swim("z".into()),
            Frame::Acknowledgement(5),
            Frame::Goodbye,
        ]
    );
}

#[test]
fn length_beyond_the_lane_is_malformed_before_the_bytes_come() {
    let length = u32::try_from(MAX_FRAME_HEAD_BYTES + max_payload_bytes(Lane::Ctl) + 1).unwrap();
    assert!(split_all(Lane::Ctl, &length.to_be_bytes()).is_err());
    assert_eq!(split_all(Lane::Bulk, &length.to_be_bytes()), Ok(vec![]));
}

#[test]
fn payload_beyond_the_lane_is_malformed() {
    let mut bytes = BytesMut::new();
    put_swim_head(&mut bytes, max_payload_bytes(Lane::Ctl) + 1);
    bytes.extend_from_slice(&vec![0; max_payload_bytes(Lane::Ctl) + 1]);
    assert!(split_all(Lane::Ctl, &bytes).is_err());
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = split_all(Lane::Ctl, &bytes);
        let _ = Greeting::decode(&bytes);
        let _ = Offer::decode(&bytes);
        let _ = Refusal::decode(&bytes);
    }

    #[test]
    fn valid_lengths_with_any_body_never_panic(
        bodies in prop::collection::vec((1u8..6, prop::collection::vec(any::<u8>(), 0..60)), 0..10)
    ) {
        let mut bytes = BytesMut::new();
        for (kind, body) in bodies {
            put_length(&mut bytes, body.len() + 1);
            bytes.put_u8(kind);
            bytes.extend_from_slice(&body);
        }
        let _ = split_all(Lane::Bulk, &bytes);
    }

    #[test]
    fn frames_cut_anywhere_come_out_whole(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 1..8),
        cuts in prop::collection::vec(1usize..5000, 1..50),
    ) {
        let frames: Vec<Numbered> = (1..).zip(payloads).map(|(seq, bytes)| sample(seq, bytes)).collect();
        let mut bytes = BytesMut::new();
        for frame in &frames {
            put_data_head(&mut bytes, frame, 0);
            bytes.extend_from_slice(&frame.bytes);
        }
        let mut bytes: Bytes = bytes.freeze();
        let mut splitter = Splitter::new(Lane::Ctl);
        let mut buffer = BytesMut::new();
        let mut whole = Vec::new();
        for cut in cuts.iter().cycle() {
            let piece = bytes.split_to((*cut).min(bytes.len()));
            buffer.extend_from_slice(&piece);
            while let Ok(frame) = splitter.next(&mut buffer).unwrap() {
                whole.push(frame);
            }
            if bytes.is_empty() {
                break;
            }
        }
        let expected: Vec<Frame> = frames
            .into_iter()
            .map(|frame| Frame::Data { acknowledged: 0, frame })
            .collect();
        prop_assert_eq!(whole, expected);
    }
}

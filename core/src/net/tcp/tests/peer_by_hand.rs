//! A peer that knows the key and does its handshake by hand, to do wrong afterwards.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::super::wire::{
    self, GREETING_HEAD_BYTES, Greeting, GreetingHead, MESSAGE_HEAD_BYTES, NONCE_BYTES, OFFER_BYTES, Offer, PROOF_BYTES,
};
use crate::engine::Lane;
use crate::net::conformance::{Node, PATIENCE, node};
use crate::net::key::Keys;
use crate::net::session::Claim;

/// Links to `at` as node `name` of incarnation 9, which listens nowhere.
pub(super) fn dial(at: &Node, name: &str, key_digits: [u8; 64]) -> TcpStream {
    let keys = Keys::of(&[key(key_digits)]);
    let mut stream = TcpStream::connect(at.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let ours = Greeting {
        lane: Lane::Ctl,
        has_key: true,
        nonce: [7; NONCE_BYTES],
        node: node(name, 9),
        address: free_address(),
    }
    .encode();
    stream.write_all(&ours).unwrap();
    let mut theirs = vec![0; GREETING_HEAD_BYTES];
    stream.read_exact(&mut theirs).unwrap();
    let head = GreetingHead::decode(theirs.first_chunk().unwrap()).unwrap();
    let mut body = vec![0; head.body_bytes];
    stream.read_exact(&mut body).unwrap();
    theirs.extend(body);
    let offer = Offer { claim: Claim { half: 77, bound_to: 0 }, received: 0, lost_connection: 0 }.encode();
    let text = [b"process-hub proof 1", &[1u8][..], &ours, &theirs, &offer].concat();
    let proof = [&keys.prove(&text)[..], &offer].concat();
    stream.write_all(&wire::encode_message(wire::MESSAGE_PROOF, &proof)).unwrap();
    let mut answer = [0; MESSAGE_HEAD_BYTES + PROOF_BYTES + OFFER_BYTES];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[0], wire::MESSAGE_PROOF);
    stream
}

fn key(digits: [u8; 64]) -> [u8; 32] {
    let text = std::str::from_utf8(&digits).unwrap();
    std::array::from_fn(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap())
}

/// An address where nothing listens.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

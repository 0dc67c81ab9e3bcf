use proptest::prelude::*;

use super::*;

fn from_hex(digits: &str) -> Vec<u8> {
    let digits = digits.trim_start_matches('-');
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex")).collect()
}

/// `literals.txt` was printed by PostgreSQL 15 under the pinned settings: type OID, `typsend` output in hexadecimal (`-` for
/// none), `typout` output.
#[test]
fn binary_values_print_as_postgresql_prints_them() {
    let mut checked = 0;
    for line in include_str!("literals.txt").lines() {
        let mut parts = line.splitn(3, ' ');
        let mut next = || parts.next().expect("three parts");
        let (oid, bytes, text) = (Oid(next().parse().expect("oid")), from_hex(next()), next());
        assert_eq!(to_text(oid, Format::Binary, &bytes).as_deref(), Some(text), "{line}");
        assert_eq!(to_text(oid, Format::Text, text.as_bytes()).as_deref(), Some(text), "{line}");
        checked += 1;
    }
    assert!(checked > 140, "{checked} literals");
}

#[test]
fn unknown_types_and_damaged_values_have_no_text() {
    let check = |oid: u32, bytes: &[u8]| assert_eq!(to_text(Oid(oid), Format::Binary, bytes), None, "type {oid}");
    check(0, b"abc");
    check(600, &[0; 16]);
    check(2249, &[0; 8]);
    check(16_500, b"label");
    check(23, &[0; 3]);
    check(23, &[0; 5]);
    check(25, &[0xff]);
    check(1700, &[0, 9, 0, 0, 0, 0, 0, 0]);
    check(1700, &[0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    check(1007, &[0x7f; 24]);
    check(1083, &(-1_i64).to_be_bytes());
    check(3802, &[2, b'1']);
    assert_eq!(to_text(Oid(25), Format::Text, &[0xff]), None);
    assert_eq!(hex(&[0, 0xab]), "\\x00ab");
}

const TYPES: &[u32] = &[
    16, 17, 18, 20, 21, 22, 23, 25, 26, 27, 650, 700, 701, 774, 829, 869, 1000, 1007, 1009, 1082, 1083, 1114, 1184,
    1186, 1231, 1266, 1560, 1700, 2950, 3220, 3802, 3807, 5069,
];

proptest! {
    #[test]
    fn no_bytes_make_it_panic(index in 0..TYPES.len(), bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = to_text(Oid(TYPES[index]), Format::Binary, &bytes);
    }

    #[test]
    fn floats_read_back_as_themselves(bits in any::<u64>()) {
        let (double, single) = (f64::from_bits(bits), f32::from_bits(bits as u32));
        let text = to_text(Oid(701), Format::Binary, &bits.to_be_bytes()).expect("a float");
        prop_assert!(double.is_nan() || text.parse::<f64>().ok() == Some(double), "{text}");
        let text = to_text(Oid(700), Format::Binary, &(bits as u32).to_be_bytes()).expect("a float");
        prop_assert!(single.is_nan() || text.parse::<f32>().ok() == Some(single), "{text}");
    }
}

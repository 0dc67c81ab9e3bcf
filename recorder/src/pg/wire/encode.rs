//! Writes messages.

/// Appends a message of type `kind`; `body` writes its payload, the length is filled in after.
pub fn message(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    untyped(out, body);
}

/// Appends a message without a type byte, as startup packets are.
pub fn untyped(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a String and its NUL.
pub fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

/// Appends an Int16 count.
pub fn count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u16).to_be_bytes());
}

/// Appends an Int32.
pub fn int32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends an unsigned Int32.
pub fn uint32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a value with its length; NULL is -1.
pub fn value(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => int32(out, -1),
        Some(bytes) => {
            int32(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}

//! Stored (uncompressed) zip archives: what DBC exports are, as far as a client can tell.

use bytes::Bytes;

/// A zip of these entries, byte for byte the same for the same entries.
pub(crate) fn zip(entries: &[(String, Bytes)]) -> Bytes {
    let mut out: Vec<u8> = Vec::new();
    let mut directory: Vec<u8> = Vec::new();
    for (name, body) in entries {
        let offset = u32::try_from(out.len()).unwrap_or(u32::MAX);
        let mut header = fixed(name, body);
        header.splice(0..0, 0x0403_4b50_u32.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(body);
        directory.extend_from_slice(&0x0201_4b50_u32.to_le_bytes());
        directory.extend_from_slice(&20_u16.to_le_bytes());
        directory.extend_from_slice(&fixed(name, body));
        // No comment, disk 0, no attributes.
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let count = u16::try_from(entries.len()).unwrap_or(u16::MAX);
    let start = u32::try_from(out.len()).unwrap_or(u32::MAX);
    let size = u32::try_from(directory.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&directory);
    out.extend_from_slice(&0x0605_4b50_u32.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    Bytes::from(out)
}

/// The stored entries of a zip, or `None` if it is none or compressed.
pub(crate) fn unzip(bytes: &[u8]) -> Option<Vec<(String, Bytes)>> {
    if !bytes.starts_with(b"PK") {
        return None;
    }
    let mut entries = Vec::new();
    let mut at = 0;
    let u16_at = |i: usize| bytes.get(i..i + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let u32_at = |i: usize| bytes.get(i..i + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    while u32_at(at)? == 0x0403_4b50 {
        if u16_at(at + 8)? != 0 {
            return None;
        }
        let size = u32_at(at + 18)? as usize;
        let (name, extra) = (u16_at(at + 26)? as usize, u16_at(at + 28)? as usize);
        let body = at + 30 + name + extra;
        let text = String::from_utf8(bytes.get(at + 30..at + 30 + name)?.to_vec()).ok()?;
        entries.push((text, Bytes::copy_from_slice(bytes.get(body..body + size)?)));
        at = body + size;
    }
    Some(entries)
}

/// The fields that both headers share, from "version needed" to "extra length".
fn fixed(name: &str, body: &[u8]) -> Vec<u8> {
    let mut h = Vec::with_capacity(30);
    let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
    h.extend_from_slice(&20_u16.to_le_bytes());
    // UTF-8 names, stored, 1980-01-01.
    h.extend_from_slice(&[0, 8, 0, 0, 0, 0, 0x21, 0]);
    h.extend_from_slice(&crc32(body).to_le_bytes());
    h.extend_from_slice(&size.to_le_bytes());
    h.extend_from_slice(&size.to_le_bytes());
    h.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
    h.extend_from_slice(&[0, 0]);
    h
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_the_standard_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn what_is_zipped_can_be_read() {
        let entries =
            vec![("a/b.py".to_owned(), Bytes::from_static(b"x = 1")), ("é".to_owned(), Bytes::new())];
        assert_eq!(unzip(&zip(&entries)), Some(entries));
        assert_eq!(unzip(b"no zip"), None);
    }
}

//! The bits of a scan, and the codes that they are.

/// Index bits of the table of short codes.
const SHORT: u32 = 9;

/// Zero bytes behind the last code of a scan that are no sign of damage: some encoders fill up.
const MAX_FILL: usize = 16;

/// The same of any bytes. Codes that went wrong seldom end so near to the end.
const MAX_EXTRA: usize = 2;

/// What is wrong with a scan.
pub enum Fault {
    /// The codes end before the picture.
    Short,
    /// A code that does not exist, or that leaves its block.
    Wrong,
    /// This many bytes more than codes.
    Extra(usize),
}

/// The next marker from `at` on; `at` then lies behind it.
pub fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let found = *at + bytes.get(*at..)?.iter().position(|&byte| byte == 0xff)?;
        let marker = found + bytes[found..].iter().position(|&byte| byte != 0xff)?;
        *at = marker + 1;
        if bytes[marker] != 0 {
            return Some(bytes[marker]);
        }
    }
}

/// A Huffman table.
#[derive(Default)]
pub struct Table {
    /// By the next [`SHORT`] bits: length and symbol of a code that fits in them; length 0: none.
    short: Vec<(u8, u8)>,
    /// By the next [`SHORT`] bits, where a code and the value behind it fit in them: bits of both, the coefficients that are
    /// passed, the value; bits 0: they do not.
    values: Vec<(u8, u8, i16)>,
    /// By length: the first number (as 16 bits, from above) that is no code of this length or a shorter one.
    ends: [u32; 17],
    /// By length: what added to a code gives its symbol's place.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    pub fn new(counts: &[u8], symbols: &[u8]) -> Option<Table> {
        let mut table = Table { short: vec![(0, 0); 1 << SHORT], symbols: symbols.to_vec(), ..Table::default() };
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16usize {
            table.offsets[length] = place as i32 - code as i32;
            for _ in 0..counts[length - 1] {
                if length as u32 <= SHORT {
                    let free = SHORT - length as u32;
                    let start = (code << free) as usize;
                    table.short.get_mut(start..start + (1 << free))?.fill((length as u8, symbols[place]));
                }
                (code, place) = (code + 1, place + 1);
            }
            if code > 1 << length {
                return None;
            }
            table.ends[length] = code << (16 - length);
            code <<= 1;
        }
        let value = |(bits, &(length, symbol)): (usize, &(u8, u8))| {
            let size = symbol & 15;
            if length == 0 || size == 0 || u32::from(length + size) > SHORT {
                return (0, 0, 0);
            }
            let behind = bits >> (SHORT - u32::from(length + size)) & ((1 << size) - 1);
            (length + size, symbol >> 4, extended(behind as u32, size.into()))
        };
        table.values = table.short.iter().enumerate().map(value).collect();
        Some(table)
    }
}

/// Where the first of `size` bits is 0, the number is below 0.
fn extended(bits: u32, size: u32) -> i16 {
    let below = size > 0 && bits >> (size - 1) == 0;
    (bits as i32 - if below { (1 << size) - 1 } else { 0 }) as i16
}

/// The bits of a scan.
pub struct Codes<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    /// The next bits, from the highest on.
    buffer: u64,
    /// How many are known; below 0 once the scan's end was passed.
    pub bits: i32,
}

impl<'a> Codes<'a> {
    /// Those that begin at `at`.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Codes { bytes, at, buffer: 0, bits: 0 }
    }

    /// Makes sure of 32 bits, as far as the scan goes.
    #[inline]
    fn fill(&mut self) {
        if self.bits < 32 {
            self.refill();
        }
    }

    fn refill(&mut self) {
        if let Some(&next) = self.bytes[self.at..].first_chunk::<8>()
            && self.bits >= 0
        {
            let next = u64::from_be_bytes(next);
            // No byte is 0xff, as none of the inverse is 0.
            let inverse = !next;
            if inverse.wrapping_sub(0x0101_0101_0101_0101) & !inverse & 0x8080_8080_8080_8080 == 0 {
                self.buffer |= next >> self.bits;
                let count = (63 - self.bits) / 8;
                self.at += count as usize;
                self.bits += 8 * count;
                // Of the byte that was not counted, some bits are there already; they are the same again.
                return;
            }
        }
        while self.bits <= 56 {
            let byte = match self.bytes[self.at..] {
                [0xff, 0, ..] => {
                    self.at += 2;
                    0xff
                }
                [0xff, ..] | [] => return,
                [byte, ..] => {
                    self.at += 1;
                    byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.bits);
            self.bits += 8;
        }
    }

    #[inline]
    fn drop_bits(&mut self, count: u32) {
        self.bits -= count as i32;
        self.buffer <<= count;
    }

    /// The next coefficient of `table` where it is a short one: how many zeros it passes, and its value.
    #[inline]
    pub fn short_value(&mut self, table: &Table) -> Option<(u8, i16)> {
        self.fill();
        let (bits, zeros, value) = *table.values.get((self.buffer >> (64 - SHORT)) as usize)?;
        self.drop_bits(u32::from(bits));
        (bits > 0).then_some((zeros, value))
    }

    /// The number that the next `count` bits, at most 16, stand for (ITU-T T.81, F.2.2.1).
    #[inline]
    pub fn value(&mut self, count: u32) -> i16 {
        extended(self.take(count), count)
    }

    /// The next `count` bits, at most 16.
    #[inline]
    pub fn take(&mut self, count: u32) -> u32 {
        self.fill();
        let bits = if count == 0 { 0 } else { (self.buffer >> (64 - count)) as u32 };
        self.drop_bits(count);
        bits
    }

    /// The symbol of the next code.
    pub fn symbol(&mut self, table: &Table) -> Result<u8, Fault> {
        self.fill();
        let (length, symbol) = table.short.get((self.buffer >> (64 - SHORT)) as usize).copied().ok_or(Fault::Wrong)?;
        if length > 0 {
            self.drop_bits(u32::from(length));
            return Ok(symbol);
        }
        let next = (self.buffer >> 48) as u32;
        let Some(length) = (SHORT as usize + 1..=16).find(|&length| next < table.ends[length]) else {
            return Err(if self.bits < 16 { Fault::Short } else { Fault::Wrong });
        };
        self.drop_bits(length as u32);
        let place = (next >> (16 - length)) as i32 + table.offsets[length];
        table.symbols.get(place as usize).copied().ok_or(Fault::Wrong)
    }

    /// Goes on behind restart marker number `count`.
    pub fn restart(&mut self, count: usize) -> Result<(), Fault> {
        self.finish()?;
        let marker = next_marker(self.bytes, &mut self.at).ok_or(Fault::Short)?;
        if usize::from(marker) == 0xd0 + count % 8 { Ok(()) } else { Err(Fault::Short) }
    }

    /// Ends a run of codes: what is left of it must be nearly nothing. `at` then is where the next marker begins.
    pub fn finish(&mut self) -> Result<(), Fault> {
        let mut extra = self.bits as usize / 8;
        let mut is_fill = extra == 0 || self.buffer << (self.bits % 8) >> (64 - 8 * extra) == 0;
        (self.buffer, self.bits) = (0, 0);
        loop {
            match self.bytes[self.at..] {
                [0xff, 0, ..] => {
                    self.at += 2;
                    is_fill = false;
                }
                [0xff, ..] | [] => break,
                [byte, ..] => {
                    self.at += 1;
                    is_fill &= byte == 0;
                }
            }
            extra += 1;
        }
        let most = if is_fill { MAX_FILL } else { MAX_EXTRA };
        if extra > most { Err(Fault::Extra(extra)) } else { Ok(()) }
    }
}

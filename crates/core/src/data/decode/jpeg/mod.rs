//! JPEG: the pixels of libjpeg-turbo, and whether the compressed data are whole.
//!
//! What other programs serve, PIL, torchvision, browsers, is decoded by libjpeg-turbo; with its transform and its
//! interpolation of colours ([`pixels`]) every pixel is the same here. And most decoders make a picture of whatever is there: what a
//! broken download lacks is grey, what a broken disk changed is coloured noise, and neither is told. Here a scan must have a
//! code for each of its blocks, no more and no less. The end marker may be missing; many cameras leave bytes behind a
//! picture.
//!
//! ```text
//! FF D8, then segments FF marker, length u16, content:
//!     C0, C1 (sequential) or C2 (progressive): size and components     C4: Huffman tables     DB: quantisation
//!     DA: components, band of coefficients (from, to), bits (high, low); after it the codes of a scan, up to the next
//!     marker     DD: restart interval     E0 "JFIF", EE "Adobe": what the components are
//! FF D9
//! codes: FF is written FF 00; every `restart interval` units of the picture they begin anew behind FF D0, D1, ..., D7
//! sequential block: size and bits of the DC's change, then (zeros before, size) and bits of each AC coefficient, up to (0, 0)
//! progressive scan: DC or a band of AC, its first bits or one more bit of it; (r, 0) ends this block and 2^r + bits - 1 more
//! ```
//! Arithmetic codes, more than 8 bits, four colours and the like are left to another decoder. Source: ITU-T T.81, annexes B,
//! F.2 and G.2.

mod codes;
mod pixels;

use image::DynamicImage;

use self::codes::{Codes, Fault, Table, next_marker};
use self::pixels::{Colours, Plane, ZIGZAG};
use super::limits::{MAX_DECODER_BYTES, MAX_PIXELS};

/// The picture of the JPEG file `bytes`; `None` if it is of a kind that is not known here.
///
/// # Errors
/// What is wrong with it, a clause.
pub fn decode(bytes: &[u8]) -> Option<Result<DynamicImage, String>> {
    let mut picture = Picture::default();
    let damage = picture.read(bytes);
    if damage.is_none() && picture.scans == 0 {
        return None;
    }
    match damage.or_else(|| picture.missing()) {
        Some(damage) => Some(Err(damage)),
        None => picture.finish().map(Ok),
    }
}

#[derive(Default)]
struct Picture {
    /// Across and down.
    size: [usize; 2],
    progressive: bool,
    components: Vec<Component>,
    /// Units of all components, across and down.
    units: [usize; 2],
    dc_tables: [Option<Table>; 4],
    ac_tables: [Option<Table>; 4],
    /// 0: none.
    restart_interval: usize,
    /// Scans begun.
    scans: usize,
    /// Steps of each coefficient, row by row.
    quantisation: [Option<[i16; 64]>; 4],
    /// Whether there is a segment of JFIF.
    jfif: bool,
    /// What Adobe's segment says of the colours.
    adobe: Option<u8>,
}

struct Component {
    id: u8,
    /// Blocks of a unit, across and down.
    sampling: [usize; 2],
    /// Blocks with any part of the picture in them, across and down.
    blocks: [usize; 2],
    /// Blocks of a row, those beside the picture too.
    stride: usize,
    /// Index of its quantisation.
    quantisation: usize,
    /// Of a progressive picture: the coefficients of each block, row by row.
    coefficients: Vec<[i16; 64]>,
    /// The samples; empty where the picture's pixels are not wanted.
    plane: Plane,
    /// The last DC coefficient.
    dc: i16,
    /// Of each coefficient, how many low bits are still to come; `None` before its first scan.
    low: [Option<u8>; 64],
}

/// One scan's head.
struct Scan {
    /// Indices of its components, with their DC and AC tables.
    components: Vec<(usize, usize, usize)>,
    /// First and last coefficient.
    band: [usize; 2],
    /// Whether it refines coefficients whose first bits are known.
    refines: bool,
    /// How many low bits are still to come.
    low: u8,
}

impl Picture {
    /// Reads segments and scans up to the end marker, or as far as they are understood. What is wrong with a scan.
    fn read(&mut self, bytes: &[u8]) -> Option<String> {
        let mut at = 2;
        loop {
            let marker = next_marker(bytes, &mut at)?;
            if matches!(marker, 0x01 | 0xd0..=0xd8) {
                continue;
            }
            if marker == 0xd9 {
                return None;
            }
            let length = bytes.get(at..at + 2)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let segment = bytes.get(at + 2..at + length.max(2))?;
            at += segment.len() + 2;
            match marker {
                0xc0..=0xc2 => self.frame(segment, marker == 0xc2)?,
                0xc4 => self.tables(segment)?,
                0xdb => self.quantisation(segment)?,
                0xe0 => self.jfif |= segment.starts_with(b"JFIF\0"),
                0xee if segment.starts_with(b"Adobe") => self.adobe = segment.get(11).copied(),
                0xdd => self.restart_interval = usize::from(u16::from_be_bytes([*segment.first()?, *segment.get(1)?])),
                0xda => {
                    let scan = self.scan(segment)?;
                    let mut codes = Codes::new(bytes, at);
                    let mut done = 0;
                    if let Err(fault) = self.walk(&scan, &mut codes, &mut done).and_then(|()| codes.finish()) {
                        let place = if self.scans == 1 { String::new() } else { format!(" of scan {}", self.scans) };
                        let share = done * 100 / self.units(&scan).0.max(1);
                        return Some(match fault {
                            Fault::Short => format!("its compressed data{place} end after {share} %"),
                            Fault::Wrong => format!("its compressed data{place} are wrong after {share} %"),
                            Fault::Extra(count) => format!("its compressed data{place} have {count} bytes too many"),
                        });
                    }
                    at = codes.at;
                }
                // Lossless, hierarchical or arithmetic.
                0xc3 | 0xc5..=0xcf => return None,
                _ => {}
            }
        }
    }

    fn frame(&mut self, segment: &[u8], progressive: bool) -> Option<()> {
        let &[8, h1, h0, w1, w0, count, ref rest @ ..] = segment else { return None };
        let [height, width] = [[h1, h0], [w1, w0]].map(|pair| usize::from(u16::from_be_bytes(pair)));
        let pixels = (width * height) as u64;
        if pixels == 0 || pixels > MAX_PIXELS || !self.components.is_empty() || !(1..=4).contains(&count) {
            return None;
        }
        let samplings: Vec<[usize; 2]> =
            rest.chunks_exact(3).map(|c| [usize::from(c[1] >> 4), usize::from(c[1] & 15)]).collect();
        if samplings.len() < usize::from(count) || samplings.iter().flatten().any(|s| !(1..=4).contains(s)) {
            return None;
        }
        let most = [0, 1].map(|axis| samplings.iter().map(|s| s[axis]).max().unwrap_or(1));
        self.units = [width.div_ceil(8 * most[0]), height.div_ceil(8 * most[1])];
        self.size = [width, height];
        self.progressive = progressive;
        let blocks: usize = samplings.iter().map(|[w, h]| self.units[0] * self.units[1] * w * h).sum();
        // Samples, coefficients of 16 bits, and pixels of three bytes.
        let bytes = blocks as u64 * 64 * if progressive { 3 } else { 1 } + 3 * pixels;
        let whole = samplings.iter().all(|s| most[0] % s[0] == 0 && most[1] % s[1] == 0);
        let wanted = whole && [1, 3].contains(&count) && bytes <= MAX_DECODER_BYTES;
        for (part, sampling) in rest.chunks_exact(3).zip(samplings).take(count.into()) {
            let stride = self.units[0] * sampling[0];
            let all = stride * self.units[1] * sampling[1];
            self.components.push(Component {
                id: part[0],
                sampling,
                blocks: [(width * sampling[0]).div_ceil(8 * most[0]), (height * sampling[1]).div_ceil(8 * most[1])],
                stride,
                quantisation: usize::from(part[2]),
                coefficients: if progressive { vec![[0; 64]; all] } else { Vec::new() },
                plane: Plane::new(
                    [stride, all / stride],
                    [0, 1].map(|axis| most[axis] / sampling[axis]),
                    self.size,
                    wanted,
                ),
                dc: 0,
                low: [None; 64],
            });
        }
        Some(())
    }

    fn quantisation(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [head, rest @ ..] = segment {
            let bytes = if head >> 4 == 0 { 1 } else { 2 };
            let steps = rest.get(..64 * bytes)?;
            let mut table = [0; 64];
            for (place, bytes) in ZIGZAG.iter().zip(steps.chunks_exact(bytes)) {
                let step = bytes.iter().fold(0, |step, &byte| step << 8 | u16::from(byte));
                table[usize::from(*place)] = i16::try_from(step).ok()?;
            }
            *self.quantisation.get_mut(usize::from(head & 15))? = Some(table);
            segment = &rest[64 * bytes..];
        }
        Some(())
    }

    fn tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [head, rest @ ..] = segment {
            let counts = rest.get(..16)?;
            let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let table = Table::new(counts, rest.get(16..16 + total)?)?;
            let tables = if head >> 4 == 0 { &mut self.dc_tables } else { &mut self.ac_tables };
            *tables.get_mut(usize::from(head & 15))? = Some(table);
            segment = &rest[16 + total..];
        }
        Some(())
    }

    /// Reads a scan's head and diagnostics which bits it brings; `None` if it cannot be walked.
    fn scan(&mut self, segment: &[u8]) -> Option<Scan> {
        let count = usize::from(*segment.first()?);
        let mut components = Vec::new();
        for pair in segment.get(1..1 + 2 * count)?.chunks_exact(2) {
            let index = self.components.iter().position(|component| component.id == pair[0])?;
            components.push((index, usize::from(pair[1] >> 4), usize::from(pair[1] & 15)));
        }
        let &[from, to, bits, ..] = segment.get(1 + 2 * count..)? else { return None };
        let (high, low) = (bits >> 4, bits & 15);
        if low > 13 {
            return None;
        }
        let (band, refines, low) = match self.progressive {
            true => ([usize::from(from), usize::from(to)], high > 0, low),
            false => ([0, 63], false, 0),
        };
        let one_band = if band[0] == 0 { band[1] == 0 || !self.progressive } else { components.len() == 1 };
        if components.is_empty() || band[0] > band[1] || band[1] > 63 || !one_band {
            return None;
        }
        let needs_dc = band[0] == 0 && !refines;
        let needs_ac = band[1] > 0;
        for &(index, dc, ac) in &components {
            if (needs_dc && self.dc_tables.get(dc)?.is_none()) || (needs_ac && self.ac_tables.get(ac)?.is_none()) {
                return None;
            }
            self.components[index].low[band[0]..=band[1]].fill(Some(low));
        }
        self.scans += 1;
        Some(Scan { components, band, refines, low })
    }

    /// Units of a scan in all and in a row. The unit of a scan of one component is a block.
    fn units(&self, scan: &Scan) -> (usize, usize) {
        let [across, down] = match &scan.components[..] {
            [(index, ..)] => self.components[*index].blocks,
            _ => self.units,
        };
        (across * down, across)
    }

    /// Walks the codes of a scan; `done` counts its units.
    fn walk(&mut self, scan: &Scan, codes: &mut Codes<'_>, done: &mut usize) -> Result<(), Fault> {
        let (all, across) = self.units(scan);
        let mut run = 0;
        let Picture { components, dc_tables, ac_tables, progressive, restart_interval, quantisation, .. } = self;
        components.iter_mut().for_each(|component| component.dc = 0);
        let none = Table::default();
        let tables = |&(index, dc, ac): &(usize, usize, usize)| {
            let [dc, ac] = [&dc_tables[dc & 3], &ac_tables[ac & 3]].map(|table| table.as_ref().unwrap_or(&none));
            (index, dc, ac)
        };
        let scanned: Vec<(usize, &Table, &Table)> = scan.components.iter().map(tables).collect();
        while *done < all {
            if *restart_interval > 0 && *done > 0 && (*done).is_multiple_of(*restart_interval) {
                codes.restart(*done / *restart_interval - 1)?;
                run = 0;
                components.iter_mut().for_each(|component| component.dc = 0);
            }
            let [x, y] = [*done % across, *done / across];
            for &(index, dc, ac) in &scanned {
                let component = &mut components[index];
                let [w, h] = if scanned.len() == 1 { [1, 1] } else { component.sampling };
                let steps = quantisation.get(component.quantisation).copied().flatten();
                for place in 0..w * h {
                    let at = [x * w + place % w, y * h + place / w];
                    let block = at[1] * component.stride + at[0];
                    let walked = if *progressive {
                        let block = component.coefficients.get_mut(block).ok_or(Fault::Wrong)?;
                        match (scan.band[0], scan.refines) {
                            (0, true) => {
                                block[0] |= (codes.take(1) << scan.low) as i16;
                                Ok(())
                            }
                            (0, false) => dc_code(codes, dc, &mut component.dc)
                                .map(|()| block[0] = component.dc.wrapping_shl(scan.low.into())),
                            (_, true) => refining_block(codes, ac, scan, block, &mut run),
                            (_, false) => first_block(codes, ac, scan, block, &mut run),
                        }
                    } else {
                        let mut block = [0; 64];
                        let walked = sequential_block(codes, dc, ac, &mut component.dc, &mut block);
                        if let Some(steps) = &steps {
                            component.plane.put(at, &block, steps);
                        }
                        walked
                    };
                    // Behind their end, codes are read as zeros: whatever was found there, they are short.
                    if codes.bits < 0 {
                        return Err(Fault::Short);
                    }
                    walked?;
                }
            }
            *done += 1;
        }
        Ok(())
    }

    /// What is missing when no more scans come: some may be lost whole.
    fn missing(&self) -> Option<String> {
        let absent = self.components.iter().filter(|component| component.low[0].is_none()).count();
        if absent > 0 {
            return Some(format!("{absent} of its {} colour components are missing", self.components.len()));
        }
        let coarse = self.components.iter().any(|component| component.low.iter().any(|&low| low != Some(0)));
        coarse.then(|| format!("the scans after number {} are missing", self.scans))
    }

    /// The pixels, where all of them can be made.
    fn finish(mut self) -> Option<DynamicImage> {
        let colours = match (&self.components[..], self.jfif, self.adobe) {
            ([_], ..) => Colours::Grey,
            ([_, _, _], true, _) => Colours::YCbCr,
            ([_, _, _], false, Some(transform)) => {
                if transform == 0 {
                    Colours::Rgb
                } else {
                    Colours::YCbCr
                }
            }
            ([r, g, b], ..) if [r.id, g.id, b.id] == *b"RGB" => Colours::Rgb,
            ([_, _, _], ..) => Colours::YCbCr,
            _ => return None,
        };
        for component in &mut self.components {
            let steps = self.quantisation.get(component.quantisation).copied().flatten()?;
            for (place, block) in component.coefficients.iter().enumerate() {
                component.plane.put([place % component.stride, place / component.stride], block, &steps);
            }
            component.coefficients = Vec::new();
        }
        let planes: Vec<Plane> = self.components.into_iter().map(|component| component.plane).collect();
        if planes.iter().any(Plane::is_empty) { None } else { pixels::image_of(&planes, self.size, colours) }
    }
}

/// Coefficient `k`, in the order of the codes.
#[inline]
fn at(block: &mut [i16; 64], k: usize) -> Option<&mut i16> {
    Some(&mut block[usize::from(*ZIGZAG.get(k)?) & 63])
}

fn dc_code(codes: &mut Codes<'_>, table: &Table, last: &mut i16) -> Result<(), Fault> {
    let size = codes.symbol(table)?;
    *last = last.wrapping_add(codes.value(u32::from(size & 15)));
    if size > 11 { Err(Fault::Wrong) } else { Ok(()) }
}

fn sequential_block(
    codes: &mut Codes<'_>,
    dc: &Table,
    ac: &Table,
    last: &mut i16,
    block: &mut [i16; 64],
) -> Result<(), Fault> {
    dc_code(codes, dc, last)?;
    block[0] = *last;
    let mut k = 1;
    while k < 64 {
        let (zeros, value) = match codes.short_value(ac) {
            Some(short) => short,
            None => match codes.symbol(ac)? {
                0xf0 => {
                    k += 16;
                    continue;
                }
                symbol if symbol & 15 == 0 => return Ok(()),
                symbol => (symbol >> 4, codes.value(u32::from(symbol & 15))),
            },
        };
        k += usize::from(zeros);
        *at(block, k).ok_or(Fault::Wrong)? = value;
        k += 1;
    }
    if k > 64 { Err(Fault::Wrong) } else { Ok(()) }
}

/// Number of blocks in an end-of-band run.
fn run_of(codes: &mut Codes<'_>, bits: usize) -> Result<u32, Fault> {
    Ok((1 << bits) + codes.take(bits as u32))
}

fn first_block(
    codes: &mut Codes<'_>,
    ac: &Table,
    &Scan { band: [from, to], low, .. }: &Scan,
    block: &mut [i16; 64],
    run: &mut u32,
) -> Result<(), Fault> {
    if *run > 0 {
        *run -= 1;
        return Ok(());
    }
    let mut k = from;
    while k <= to {
        let symbol = codes.symbol(ac)?;
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        match (size, zeros) {
            (0, 15) => k += 16,
            (0, _) => {
                *run = run_of(codes, zeros)? - 1;
                return Ok(());
            }
            _ => {
                k += zeros;
                if k > to {
                    return Err(Fault::Wrong);
                }
                *at(block, k).ok_or(Fault::Wrong)? = codes.value(size).wrapping_shl(low.into());
                k += 1;
            }
        }
    }
    Ok(())
}

/// One more bit of a coefficient that is not zero.
fn refine(codes: &mut Codes<'_>, low: u8, coefficient: &mut i16) {
    if codes.take(1) == 1 && *coefficient >> low & 1 == 0 {
        *coefficient = coefficient.wrapping_add(coefficient.signum() << low);
    }
}

fn refining_block(
    codes: &mut Codes<'_>,
    ac: &Table,
    &Scan { band: [from, to], low, .. }: &Scan,
    block: &mut [i16; 64],
    run: &mut u32,
) -> Result<(), Fault> {
    let mut k = from;
    while *run == 0 && k <= to {
        let symbol = codes.symbol(ac)?;
        let (mut zeros, size) = (symbol >> 4, symbol & 15);
        let new = match size {
            0 if zeros < 15 => {
                *run = run_of(codes, usize::from(zeros))?;
                break;
            }
            0 => 0,
            1 if codes.take(1) == 1 => 1 << low,
            1 => -1 << low,
            _ => return Err(Fault::Wrong),
        };
        // Past `zeros` coefficients that stay zero; each one on the way that is not zero gets a bit.
        while k <= to {
            let coefficient = at(block, k).ok_or(Fault::Wrong)?;
            if *coefficient != 0 {
                refine(codes, low, coefficient);
            } else if zeros == 0 {
                break;
            } else {
                zeros -= 1;
            }
            k += 1;
        }
        if new != 0 {
            if k > to {
                return Err(Fault::Wrong);
            }
            *at(block, k).ok_or(Fault::Wrong)? = new;
        }
        k += 1;
    }
    if *run > 0 {
        for k in k..=to {
            let coefficient = at(block, k).ok_or(Fault::Wrong)?;
            if *coefficient != 0 {
                refine(codes, low, coefficient);
            }
        }
        *run -= 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_those_of_libjpeg_turbo() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jpeg");
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|ending| ending != "jpg") {
                continue;
            }
            count += 1;
            let own = decode(&std::fs::read(&path).unwrap()).expect("a known kind").unwrap();
            let pillow = image::open(path.with_extension("png")).unwrap();
            assert_eq!((own.width(), own.height(), own.color()), (pillow.width(), pillow.height(), pillow.color()));
            let different = own.as_bytes().iter().zip(pillow.as_bytes()).filter(|(a, b)| a != b).count();
            assert_eq!(different, 0, "{}: of {} samples", path.display(), own.as_bytes().len());
        }
        assert_eq!(count, 12);
    }

    #[test]
    fn what_is_not_known_here_is_left_to_another_decoder() {
        let whole = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jpeg/sequential-420.jpg")).unwrap();
        let frame = whole.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
        let changed = |place: usize, value: u8| {
            let mut bytes = whole.clone();
            bytes[frame + place] = value;
            decode(&bytes)
        };
        assert!(changed(1, 0xc9).is_none(), "arithmetic codes");
        assert!(changed(4, 12).is_none(), "12 bits");
        assert!(decode(&whole[..frame]).is_none() && decode(b"").is_none());
        // Sizes that no memory is taken for.
        let mut huge = whole.clone();
        huge[frame + 5..frame + 9].fill(0xff);
        assert!(decode(&huge).is_none());
    }
}

//! The clock on the wall of one process, which jumps for it alone.
//!
//! Programs do not ask the kernel what time it is: they call a function that it maps into each of them (the
//! vDSO), and not all of them by way of libc, so preloading a library would not reach them. Here that function
//! is led around: it asks the kernel, and adds to the time on the wall, and to that alone, as many seconds as
//! stand beside it in the process's memory. Timers that the kernel keeps go on as before.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

use crate::peers::skip;

/// What a process takes for the time of day.
pub struct WallClock {
    memory: File,
    /// Where the seconds stand that are added.
    seconds: u64,
}

impl WallClock {
    /// That of a process, right so far; `None` where it cannot be had, after saying so. The process should have
    /// been at work for a moment.
    pub fn of(process: u32) -> Option<WallClock> {
        if !cfg!(target_arch = "x86_64") {
            skip("the machine code (x86_64) that makes a clock jump");
            return None;
        }
        let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("it runs");
        let line = maps.lines().find(|line| line.ends_with("[vdso]")).expect("it has that function");
        let (start, end) =
            line.split_whitespace().next().and_then(|range| range.split_once('-')).expect("a range");
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).expect("an address"));
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{process}/mem"));
        let memory = memory.expect("the right to write there");
        let mut image = vec![0; (end - start) as usize];
        memory.read_exact_at(&mut image, start).expect("read");
        let function = function(&image, b"__vdso_clock_gettime").expect("it is there by name");
        // Behind all that it holds the last page is empty.
        let seconds = end - 8;
        let detour = end - 64;
        assert!(image[image.len() - 64..].iter().all(|byte| *byte == 0), "no room for a detour");
        let code = code(detour, seconds);
        memory.write_all_at(&code, detour).expect("written");
        let leap = [&[0xe9][..], &distance(function + start + 5, detour)].concat();
        memory.write_all_at(&leap, function + start).expect("written");
        Some(WallClock { memory, seconds })
    }

    /// Sets it so far off the right time.
    pub fn set_off(&self, seconds: i64) {
        self.memory.write_all_at(&seconds.to_ne_bytes(), self.seconds).expect("written");
    }
}

/// Asks the kernel, and adds the seconds that stand somewhere to the time on the wall (clock 0).
fn code(at: u64, seconds: u64) -> Vec<u8> {
    let mut code = vec![
        0xb8, 0xe4, 0, 0, 0, // mov eax, 228: clock_gettime
        0x0f, 0x05, // syscall
        0x85, 0xff, // test edi, edi
        0x75, 0x0a, // jnz to the end
        0x48, 0x8b, 0x0d, // mov rcx, [rip + distance]
    ];
    code.extend(distance(at + code.len() as u64 + 4, seconds));
    code.extend([
        0x48, 0x01, 0x0e, // add [rsi], rcx
        0xc3, // ret
    ]);
    code
}

fn distance(from: u64, to: u64) -> [u8; 4] {
    i32::try_from(to.cast_signed() - from.cast_signed()).expect("the same few pages").to_le_bytes()
}

/// Where a function begins in a shared object of ELF64, by its dynamic symbols.
fn function(image: &[u8], name: &[u8]) -> Option<u64> {
    let number = |at: u64, size: usize| -> Option<u64> {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(image.get(at as usize..at as usize + size)?);
        Some(u64::from_le_bytes(bytes))
    };
    let (sections, count) = (number(40, 8)?, number(60, 2)?);
    let section = |place: u64| sections + place * 64;
    let table = (0..count).map(section).find(|at| number(at + 4, 4) == Some(DYNAMIC_SYMBOLS))?;
    let (symbols, size, names) = (number(table + 24, 8)?, number(table + 32, 8)?, number(table + 40, 4)?);
    let texts = number(section(names) + 24, 8)?;
    (0..size / 24).find_map(|place| {
        let symbol = symbols + place * 24;
        let text = image.get((texts + number(symbol, 4)?) as usize..)?;
        (text.strip_prefix(name)?.first() == Some(&0)).then(|| number(symbol + 8, 8))?
    })
}

const DYNAMIC_SYMBOLS: u64 = 11;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::*;

    #[test]
    fn clock_on_the_wall_jumps_and_no_other() {
        let Some(clock) = WallClock::of(std::process::id()) else { return };
        let (wall, since) = (SystemTime::now(), Instant::now());
        let minute = Duration::from_secs(60);
        for jump in [10_000_i64, -10_000, 0] {
            clock.set_off(jump);
            let off = match SystemTime::now().duration_since(wall) {
                Ok(later) => later.as_secs().cast_signed(),
                Err(earlier) => -earlier.duration().as_secs().cast_signed(),
            };
            assert!((off - jump).abs() < 60, "{off} seconds off, not {jump}");
            assert!(since.elapsed() < minute);
        }
    }
}

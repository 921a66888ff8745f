//! The grammar of Lambda's own lines in a log, and of the names of log streams. PURE.
//!
//! A line is the platform's only in exactly the shape that AWS gives it. A number is an integer within bounds, a text is
//! bounded and on one line: whatever a program prints, what comes out of here can be stored and read back. Whose a line is,
//! is for the reader to find out: a program can print all of this, so a line counts only with a request id that is known.
//!
//! Source of the shapes: AWS Lambda developer guide, "Sending Lambda function logs to CloudWatch Logs", and recorded
//! answers of the real service.

use std::collections::BTreeSet;

use super::bounds::MAX_MESSAGE_BYTES;
use super::status::{Report, ReportStatus};
use super::text::bounded_line;

/// Characters of a request id, a UUID.
const REQUEST_ID: usize = 36;
/// Where its dashes are.
const DASHES: [usize; 4] = [8, 13, 18, 23];
/// The longest duration that a REPORT may tell, in microseconds: 24 hours. Lambda's longest time-out is half an hour.
pub const MAX_DURATION_US: u64 = 24 * 3_600 * 1_000_000;
/// The most memory that a REPORT may tell, in MB. Lambda's most is 10,240.
pub const MAX_MEMORY_MB: u32 = 65_536;
/// Decimals of a number of milliseconds, at most: Lambda writes two in its lines, three in JSON.
const MAX_DECIMALS: usize = 3;
/// Digits before them, at most: more are over every bound.
const MAX_DIGITS: usize = 9;
/// Bytes of an error's type that are kept. Lambda's own are shorter than 40.
pub const MAX_ERROR_TYPE_BYTES: usize = 128;
/// Bytes of an unknown word in the place of a status, at most.
const MAX_STATUS_BYTES: usize = 32;
/// Characters of the environment's part of a stream's name.
const ENVIRONMENT: usize = 32;
/// What stands in a stream's name between the function and the environment.
const UNPUBLISHED: &str = "[$LATEST]";

/// A line that Lambda itself writes around one invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlatformLine {
    /// `START RequestId: ID Version: $LATEST`
    Start,
    /// `END RequestId: ID`
    End,
    /// `REPORT RequestId: ID …`, without what only the reader can add.
    Report(Report),
    /// `<time> ID Task timed out after 3.00 seconds`
    TimedOut,
    /// `RequestId: ID Error: …`
    Failed {
        /// Lambda's word for the kind of failure, if it stands in the same event.
        error_type: String,
        /// Lambda's sentence, such as `Runtime exited with error: exit status 3`.
        message: String,
    },
}

impl PlatformLine {
    /// Reads a log event: the invocation and what is said of it. `None`: it is not in the shape of any of these lines.
    #[must_use]
    pub fn parse(message: &str) -> Option<(&str, Self)> {
        let line = message.trim_end_matches(['\n', '\r']);
        if let Some(rest) = line.strip_prefix("START RequestId: ") {
            let (id, rest) = leading_request_id(rest)?;
            return (rest.trim_end() == " Version: $LATEST").then_some((id, Self::Start));
        }
        if let Some(rest) = line.strip_prefix("END RequestId: ") {
            let (id, rest) = leading_request_id(rest)?;
            return rest.trim_end().is_empty().then_some((id, Self::End));
        }
        if let Some(rest) = line.strip_prefix("REPORT RequestId: ") {
            let (id, rest) = leading_request_id(rest)?;
            return parse_report(rest).map(|report| (id, Self::Report(report)));
        }
        if let Some(rest) = line.strip_prefix("RequestId: ") {
            let (id, rest) = leading_request_id(rest)?;
            return parse_failed(rest).map(|failed| (id, failed));
        }
        parse_timed_out(line).map(|id| (id, Self::TimedOut))
    }
}

/// Whether a text is a request id: a UUID in lower-case hexadecimal digits.
#[must_use]
pub fn is_request_id(text: &str) -> bool {
    text.len() == REQUEST_ID
        && text.bytes().enumerate().all(|(place, byte)| match DASHES.contains(&place) {
            true => byte == b'-',
            false => is_hex(byte),
        })
}

/// The function and the environment in a stream's name: `YYYY/MM/DD/<function>[$LATEST]<32 hexadecimal digits>`. `None`: the
/// stream is not one of those that Lambda makes for a function.
#[must_use]
pub fn function_of_stream(stream: &str) -> Option<&str> {
    let mut parts = stream.splitn(4, '/');
    for digits in [4, 2, 2] {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
    }
    let (function, environment) = parts.next()?.split_once(UNPUBLISHED)?;
    let is_name = !function.is_empty() && function.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    (is_name && environment.len() == ENVIRONMENT && environment.bytes().all(is_hex)).then_some(function)
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

fn leading_request_id(text: &str) -> Option<(&str, &str)> {
    let (id, rest) = text.split_at_checked(REQUEST_ID)?;
    is_request_id(id).then_some((id, rest))
}

/// ` Error: Runtime exited with error: exit status 3`; the error type may stand in a second line.
fn parse_failed(rest: &str) -> Option<PlatformLine> {
    let error = rest.strip_prefix(" Error: ")?;
    let (message, error_type) = error.split_once('\n').unwrap_or((error, ""));
    Some(PlatformLine::Failed {
        error_type: bounded_line(error_type, MAX_ERROR_TYPE_BYTES),
        message: bounded_line(message, MAX_MESSAGE_BYTES),
    })
}

/// `<time> ID Task timed out after 3.00 seconds`.
fn parse_timed_out(line: &str) -> Option<&str> {
    let (time, rest) = line.split_once(' ')?;
    let (id, rest) = leading_request_id(rest)?;
    let seconds = rest.strip_prefix(" Task timed out after ")?.strip_suffix(" seconds")?;
    (is_time(time) && thousandths(seconds).is_some()).then_some(id)
}

/// `2026-11-23T01:13:11.973Z`
fn is_time(text: &str) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00.000Z";
    text.len() == SHAPE.len()
        && text.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => byte == *other,
        })
}

/// The fields of a REPORT behind its request id. Those that are not known are skipped; AWS adds some.
fn parse_report(rest: &str) -> Option<Report> {
    let (fields, more) = rest.split_once('\n').unwrap_or((rest, ""));
    if !(more.trim().is_empty() || more.starts_with("XRAY TraceId: ")) {
        return None;
    }
    let fields = fields.strip_prefix('\t')?.trim_end_matches('\t');
    let (mut seen, mut found) = (BTreeSet::new(), Fields::default());
    for field in fields.split('\t') {
        let (name, value) = field.split_once(": ")?;
        if !seen.insert(name) {
            return None;
        }
        found.take(name, value)?;
    }
    found.report()
}

/// What a REPORT has said so far.
#[derive(Default)]
struct Fields<'a> {
    duration: Option<u64>,
    billed: Option<u64>,
    init: Option<u64>,
    memory: Option<u32>,
    max_memory: Option<u32>,
    status: Option<&'a str>,
    error_type: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// `None`: the value is not in the field's shape.
    fn take(&mut self, name: &str, value: &'a str) -> Option<()> {
        match name {
            "Duration" => self.duration = Some(microseconds(value)?),
            "Billed Duration" => self.billed = Some(microseconds(value)?),
            "Init Duration" => self.init = Some(microseconds(value)?),
            "Memory Size" => self.memory = Some(megabytes(value)?),
            "Max Memory Used" => self.max_memory = Some(megabytes(value)?),
            "Status" => self.status = Some(value),
            "Error Type" => self.error_type = Some(value),
            _ => {}
        }
        Some(())
    }

    /// `None`: a field is missing that every REPORT has.
    fn report(self) -> Option<Report> {
        let status = match self.status {
            None => ReportStatus::Untold,
            Some("success") => ReportStatus::Success,
            Some("timeout") => ReportStatus::Timeout,
            Some(word) if is_word(word) => ReportStatus::Error {
                error_type: bounded_line(self.error_type.unwrap_or_default(), MAX_ERROR_TYPE_BYTES),
            },
            Some(_) => return None,
        };
        Some(Report {
            status,
            duration_us: self.duration?,
            billed_us: self.billed?,
            init_us: self.init,
            memory_mb: self.memory?,
            max_memory_mb: self.max_memory?,
            ..Report::default()
        })
    }
}

fn is_word(text: &str) -> bool {
    (1..=MAX_STATUS_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// `10.51 ms`
fn microseconds(value: &str) -> Option<u64> {
    thousandths(value.strip_suffix(" ms")?).filter(|us| *us <= MAX_DURATION_US)
}

/// `128 MB`
fn megabytes(value: &str) -> Option<u32> {
    let digits = value.strip_suffix(" MB")?;
    let number = u32::try_from(digits_of(digits)?).ok()?;
    (number <= MAX_MEMORY_MB).then_some(number)
}

/// A decimal number without sign and exponent, in thousandths.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, decimals) = match text.split_once('.') {
        Some((whole, decimals)) => (whole, Some(decimals)),
        None => (text, None),
    };
    let fraction = match decimals {
        None => 0,
        Some(decimals) if decimals.len() <= MAX_DECIMALS => {
            digits_of(&format!("{decimals:0<MAX_DECIMALS$}")).filter(|_| !decimals.is_empty())?
        }
        Some(_) => return None,
    };
    digits_of(whole)?.checked_mul(1_000)?.checked_add(fraction)
}

fn digits_of(text: &str) -> Option<u64> {
    let is_number = (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "6bc28136-0e5d-4365-b021-0ce6b2e64ab0";
    const NUMBERS: &str = "Duration: 10.51 ms\tBilled Duration: 11 ms\tMemory Size: 128 MB\tMax Memory Used: 40 MB";

    fn report(fields: &str) -> Option<Report> {
        match PlatformLine::parse(&format!("REPORT RequestId: {ID}\t{fields}\t\n")) {
            Some((ID, PlatformLine::Report(report))) => Some(report),
            Some(other) => panic!("{other:?}"),
            None => None,
        }
    }

    #[test]
    fn a_report_has_integers() {
        let found = report(&format!("{NUMBERS}\tInit Duration: 84.00 ms")).unwrap();
        assert_eq!((found.duration_us, found.billed_us, found.init_us), (10_510, 11_000, Some(84_000)));
        assert_eq!((found.memory_mb, found.max_memory_mb), (128, 40));
        assert_eq!(
            report(&format!("{NUMBERS}\tRestore Duration: 5 ms\nXRAY TraceId: 1-2\tSampled: true")),
            report(NUMBERS)
        );
    }

    #[test]
    fn a_report_with_a_number_that_is_none_is_no_report() {
        for number in [
            "NaN",
            "nan",
            "inf",
            "-inf",
            "infinity",
            "1e999",
            "1e3",
            "-1",
            "+1",
            "-0",
            "0x10",
            "",
            ".",
            "1.",
            ".5",
            "1.2345",
            "1,5",
            " 1",
            "1 ",
            "1_000",
            "10000000000",
            "99999999999999999999999",
            "١",
        ] {
            for field in ["Duration", "Billed Duration", "Init Duration"] {
                let fields = format!("{NUMBERS}\tInit Duration: 1 ms");
                let known = fields.split('\t').find(|known| known.starts_with(field)).unwrap();
                let forged = fields.replacen(known, &format!("{field}: {number} ms"), 1);
                assert_eq!(report(&forged), None, "{forged:?}");
            }
            for field in ["Memory Size: 128", "Max Memory Used: 40"] {
                let (name, _) = field.split_once(": ").unwrap();
                let forged = NUMBERS.replacen(field, &format!("{name}: {number}"), 1);
                assert_eq!(report(&forged), None, "{forged:?}");
            }
        }
        assert_eq!(report(&NUMBERS.replace("128 MB", "1.5 MB")), None);
        assert_eq!(report(&NUMBERS.replace("128 MB", "65537 MB")), None);
        assert_eq!(report(&NUMBERS.replace("10.51 ms", "86400000.001 ms")), None);
        assert!(report(&NUMBERS.replace("10.51 ms", "86400000 ms")).is_some());
    }

    #[test]
    fn a_report_needs_every_field_once_and_in_its_unit() {
        for field in NUMBERS.split('\t') {
            assert_eq!(report(&NUMBERS.replacen(field, "More: 1", 1)), None, "without {field}");
            assert_eq!(report(&format!("{NUMBERS}\t{field}")), None, "{field} twice");
        }
        for forged in [
            NUMBERS.replace(" ms", " s"),
            NUMBERS.replace(" MB", " GB"),
            NUMBERS.replace(" ms", ""),
            format!("{NUMBERS}\tStatus: A b"),
            format!("{NUMBERS}\tStatus: error\tStatus: success"),
            format!("{NUMBERS}\nand more"),
            NUMBERS.replace('\t', " "),
        ] {
            assert_eq!(report(&forged), None, "{forged:?}");
        }
    }

    #[test]
    fn a_request_id_is_a_uuid_in_lower_case() {
        assert!(is_request_id(ID));
        let upper = ID.to_uppercase();
        for id in ["", "me", &upper, &ID[1..], &ID.replace('6', "x"), &ID.replace('-', "a"), &format!("{ID}0"), "ä"] {
            assert!(!is_request_id(id), "{id}");
            assert_eq!(PlatformLine::parse(&format!("START RequestId: {id} Version: $LATEST")), None);
            assert_eq!(PlatformLine::parse(&format!("REPORT RequestId: {id}\t{NUMBERS}")), None);
        }
    }

    #[test]
    fn only_lambdas_streams_have_a_function() {
        let environment = "0123456789abcdef0123456789abcdef";
        let stream = format!("2026/11/23/skls-0a-1b[$LATEST]{environment}");
        assert_eq!(function_of_stream(&stream), Some("skls-0a-1b"));
        for forged in [
            "0a1b/7".to_owned(),
            "2026/11/23/no-brackets".to_owned(),
            stream.replace("2026", "x"),
            stream.replace("$LATEST", "7"),
            stream.replace("/skls", "/a/skls"),
            format!("{stream}0"),
            stream.replace("0123", "012"),
            stream.replace("abcdef", "ABCDEF"),
            stream.replace("skls-0a-1b", ""),
        ] {
            assert_eq!(function_of_stream(&forged), None, "{forged}");
        }
    }

    /// Lines that are nearly Lambda's.
    fn near() -> impl Strategy<Value = String> {
        let id = prop_oneof![Just(ID.to_owned()), "[0-9a-fx]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"];
        let number = prop_oneof![
            "[0-9]{1,10}(\\.[0-9]{1,4})?",
            Just("NaN".to_owned()),
            Just("1e999".to_owned()),
            "[-+.0-9einfa]{0,8}"
        ];
        let field = (
            prop_oneof![
                Just("Duration"),
                Just("Billed Duration"),
                Just("Init Duration"),
                Just("Memory Size"),
                Just("Max Memory Used"),
                Just("Status"),
                Just("Error Type")
            ],
            number,
            prop_oneof![Just(" ms"), Just(" MB"), Just(""), Just(" s")],
        );
        let field = field.prop_map(|(name, number, unit)| format!("\t{name}: {number}{unit}"));
        let valid = Just(format!("\t{NUMBERS}"));
        let fields = prop::collection::vec(prop_oneof![4 => field, 1 => valid], 0..8).prop_map(|f| f.concat());
        let head = prop_oneof![
            Just("REPORT RequestId: "),
            Just("START RequestId: "),
            Just("RequestId: "),
            Just("END RequestId: ")
        ];
        (head, id, prop_oneof![fields, "\\PC{0,40}", " Error: .{0,3000}"])
            .prop_map(|(head, id, rest)| format!("{head}{id}{rest}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_is_read_is_within_bounds_and_comes_back(line in prop_oneof![3 => near(), 1 => any::<String>()]) {
            let Some((id, said)) = PlatformLine::parse(&line) else { return Ok(()) };
            prop_assert!(is_request_id(id));
            match said {
                PlatformLine::Report(report) => {
                    let longest = [Some(report.duration_us), Some(report.billed_us), report.init_us];
                    prop_assert!(longest.into_iter().flatten().all(|us| us <= MAX_DURATION_US));
                    prop_assert!(report.memory_mb.max(report.max_memory_mb) <= MAX_MEMORY_MB);
                    let stored = serde_json::to_string(&report).unwrap();
                    prop_assert_eq!(serde_json::from_str::<Report>(&stored).unwrap(), report);
                }
                PlatformLine::Failed { error_type, message } => {
                    prop_assert!(message.len() <= MAX_MESSAGE_BYTES && error_type.len() <= MAX_ERROR_TYPE_BYTES);
                    prop_assert!(!message.contains(char::is_control) && !error_type.contains(char::is_control));
                }
                PlatformLine::Start | PlatformLine::End | PlatformLine::TimedOut => {}
            }
        }

        #[test]
        fn a_report_as_lambda_writes_it_is_read_to_the_digit(ms in 0..90_000_000_u64, cents in 0..100_u64, mb in 0..70_000_u32) {
            let fields = NUMBERS.replace("10.51", &format!("{ms}.{cents:02}")).replace("40 MB", &format!("{mb} MB"));
            let us = ms * 1_000 + cents * 10;
            let expected = (us <= MAX_DURATION_US && mb <= MAX_MEMORY_MB).then_some((us, mb));
            prop_assert_eq!(report(&fields).map(|report| (report.duration_us, report.max_memory_mb)), expected);
        }
    }
}

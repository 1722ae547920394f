//! Recorded vitals in a CSV file: read row by row, cell by cell, with errors that name the line.
//!
//! The first column is `t_s`, seconds on the recording's own clock; every other column is one signal. Two commands read
//! these files, `simulate` and `replay`, and this is what makes them read the same readings.
//!
//! Invariants
//! - readings come in the order of the file: by row, within a row by column;
//! - time never goes back, every value is a finite number;
//! - an empty cell, or `NaN`, is no reading. Any number is one: what a monitor's 0 or 8388607 means is for the rules to say.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    str::FromStr,
};

use wardline_plugin_api::signal::{SIGNALS, Signal};

/// Name of the first column: seconds on the recording's clock.
const TIME_COLUMN: &str = "t_s";

/// One reading of a recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordedReading {
    /// Seconds on the recording's clock; finite, never less than that of the reading before.
    pub t_s: f64,
    /// Which signal.
    pub signal: &'static Signal,
    /// Finite, in the signal's own unit.
    pub value: f64,
}

/// What a column holds: `COLUMN=signal` on a command line.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    /// The column's name in the file's header.
    pub column: String,
    /// The signal it holds.
    pub signal: &'static Signal,
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (column, name) =
            text.rsplit_once('=').ok_or_else(|| format!("'{text}' is not COLUMN=signal, as in HR_ecg=hr"))?;
        let signal = Signal::named(name).ok_or_else(|| {
            let names = SIGNALS.iter().map(|signal| signal.name).collect::<Vec<_>>().join(", ");
            format!("'{name}' is not a signal; they are {names}")
        })?;
        Ok(Self { column: column.trim().to_owned(), signal })
    }
}

/// Why a recording cannot be read: which file, which line, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line cannot be read.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1, which is the header's.
        line: u64,
        /// What is wrong, and how to mend it.
        problem: String,
    },
}

/// A recording, read as it is iterated. Ends after the first error.
#[derive(Debug)]
pub struct Recording<R = BufReader<File>> {
    path: PathBuf,
    source: R,
    /// The line read last, and its number, counted from 1.
    text: String,
    line: u64,
    /// For each column after the first, the signal it holds, or none if it is not read.
    signals: Vec<Option<&'static Signal>>,
    ignored: Vec<String>,
    pending: VecDeque<RecordedReading>,
    last_t_s: f64,
    ended: bool,
}

impl Recording {
    /// Opens a file. With no `map`, columns named after a signal are read (`HR`, `HR_ecg`, `SpO2` and `NBP_SYS` are understood); with
    /// one, exactly the columns it names.
    pub fn open(path: impl AsRef<Path>, map: &[Mapping]) -> Result<Self, RecordingError> {
        let path = path.as_ref();
        let file =
            File::open(path).map_err(|source| RecordingError::Open { path: path.to_owned(), source })?;
        Self::read(BufReader::new(file), path, map)
    }
}

impl<R: BufRead> Recording<R> {
    /// Reads a recording from anywhere; `path` is what errors call it.
    pub fn read(source: R, path: impl Into<PathBuf>, map: &[Mapping]) -> Result<Self, RecordingError> {
        let mut recording = Self {
            path: path.into(),
            source,
            text: String::new(),
            line: 0,
            signals: Vec::new(),
            ignored: Vec::new(),
            pending: VecDeque::new(),
            last_t_s: f64::NEG_INFINITY,
            ended: false,
        };
        let header =
            recording.read_cells().and_then(|header| assign_columns(&header.unwrap_or_default(), map));
        (recording.signals, recording.ignored) = header.map_err(|problem| recording.error(problem))?;
        Ok(recording)
    }

    /// Columns of the file that are not read: to be told to the person who plays it.
    pub fn ignored_columns(&self) -> &[String] {
        &self.ignored
    }

    /// The signals that it holds, in the order of its columns.
    pub fn signals(&self) -> impl Iterator<Item = &'static Signal> {
        self.signals.iter().flatten().copied()
    }

    /// Reads one row into `pending`; false at the end of the file.
    fn read_row(&mut self) -> Result<bool, String> {
        let Some(row) = self.read_cells()? else { return Ok(false) };
        let columns = self.signals.len() + 1;
        if row.len() != columns {
            return Err(format!("{} cells where the header has {columns}", row.len()));
        }
        let mut cells = row.iter();
        let time = cells.next().unwrap_or_default();
        let t_s = parse_finite(time)
            .ok_or_else(|| format!("'{time}' in column {TIME_COLUMN} is not a number of seconds"))?;
        if t_s < self.last_t_s {
            let before = self.last_t_s;
            return Err(format!("time goes back from {before} s to {t_s} s; sort the rows by {TIME_COLUMN}"));
        }
        self.last_t_s = t_s;
        for (cell, signal) in cells.zip(&self.signals) {
            let Some(signal) = signal else { continue };
            if cell.is_empty() || cell.eq_ignore_ascii_case("nan") {
                continue;
            }
            let value = parse_finite(cell).ok_or_else(|| {
                format!("'{cell}' is not a value of {}; leave the cell empty for no reading", signal.name)
            })?;
            self.pending.push_back(RecordedReading { t_s, signal, value });
        }
        Ok(true)
    }

    /// The cells of the next line that has any; none at the end of the file. Line by line and not by the csv reader as a
    /// whole, because its line numbers are off by the blank lines before a row, and with Windows line ends.
    fn read_cells(&mut self) -> Result<Option<csv::StringRecord>, String> {
        loop {
            self.text.clear();
            if self.source.read_line(&mut self.text).map_err(|error| error.to_string())? == 0 {
                return Ok(None);
            }
            self.line += 1;
            if self.text.trim().is_empty() {
                continue;
            }
            let mut cells = csv::StringRecord::new();
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .trim(csv::Trim::All)
                .buffer_capacity(self.text.len())
                .from_reader(self.text.as_bytes());
            reader.read_record(&mut cells).map_err(|error| error.to_string())?;
            return Ok(Some(cells));
        }
    }

    fn error(&self, problem: String) -> RecordingError {
        RecordingError::Line { path: self.path.clone(), line: self.line.max(1), problem }
    }
}

impl<R: BufRead> Iterator for Recording<R> {
    type Item = Result<RecordedReading, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(reading) = self.pending.pop_front() {
                return Some(Ok(reading));
            }
            if self.ended {
                return None;
            }
            match self.read_row() {
                Ok(true) => {}
                Ok(false) => self.ended = true,
                Err(problem) => {
                    // What was read of the faulty row is not a reading.
                    self.pending.clear();
                    self.ended = true;
                    return Some(Err(self.error(problem)));
                }
            }
        }
    }
}

type Columns = (Vec<Option<&'static Signal>>, Vec<String>);

fn assign_columns(header: &csv::StringRecord, map: &[Mapping]) -> Result<Columns, String> {
    if header.get(0) != Some(TIME_COLUMN) {
        let found = header.get(0).unwrap_or_default();
        return Err(format!(
            "the first column is '{found}', not {TIME_COLUMN}; a recording starts with its time in seconds"
        ));
    }
    if let Some(missing) =
        map.iter().find(|mapping| !header.iter().skip(1).any(|name| name == mapping.column))
    {
        let names = header.iter().skip(1).collect::<Vec<_>>().join(", ");
        return Err(format!("there is no column '{}' to map; the columns are {names}", missing.column));
    }

    let mut signals = Vec::with_capacity(header.len());
    let mut ignored = Vec::new();
    let mut column_of = HashMap::new();
    for column in header.iter().skip(1) {
        let signal = signal_of(column, map);
        match signal {
            None => ignored.push(column.to_owned()),
            Some(Signal { name, .. }) => {
                if let Some(other) = column_of.insert(*name, column) {
                    return Err(format!(
                        "columns '{other}' and '{column}' are both {name}; choose one with --map"
                    ));
                }
            }
        }
        signals.push(signal);
    }
    if column_of.is_empty() {
        let names = ignored.join(", ");
        return Err(format!(
            "no column is named after a signal ({names}); say what they are with --map COLUMN=signal"
        ));
    }
    Ok((signals, ignored))
}

fn signal_of(column: &str, map: &[Mapping]) -> Option<&'static Signal> {
    if map.is_empty() {
        // `HR_ecg` is the heart rate, and says where it was taken from.
        let name = column.to_ascii_lowercase().replace('_', "-");
        return Signal::named(name.strip_suffix("-ecg").unwrap_or(&name));
    }
    map.iter().find(|mapping| mapping.column == column).map(|mapping| mapping.signal)
}

fn parse_finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(text: &'a str, map: &[&str]) -> Result<Recording<&'a [u8]>, RecordingError> {
        let map: Vec<Mapping> = map.iter().map(|m| m.parse().unwrap()).collect();
        Recording::read(text.as_bytes(), "ward.csv", &map)
    }

    fn readings(text: &str, map: &[&str]) -> Vec<(f64, &'static str, f64)> {
        let readings: Result<Vec<_>, _> = read(text, map).unwrap().collect();
        readings.unwrap().into_iter().map(|r| (r.t_s, r.signal.name, r.value)).collect()
    }

    #[test]
    fn columns_named_after_signals_need_no_mapping() {
        let text = "t_s,HR,SpO2,NBP_SYS,Notes\n0,72,97.5,120,x\n60,73,,121,\n";
        let recording = read(text, &[]).unwrap();
        assert_eq!(
            recording.signals().map(|signal| signal.name).collect::<Vec<_>>(),
            ["hr", "spo2", "nbp-sys"]
        );
        assert_eq!(recording.ignored_columns(), ["Notes"]);
        let expected = [
            (0.0, "hr", 72.0),
            (0.0, "spo2", 97.5),
            (0.0, "nbp-sys", 120.0),
            (60.0, "hr", 73.0),
            (60.0, "nbp-sys", 121.0),
        ];
        assert_eq!(readings(text, &[]), expected);
    }

    #[test]
    fn a_mapping_chooses_exactly_its_columns() {
        let text = "t_s,HR_ecg,SpO2\n100.017,57.8,99\n";
        assert_eq!(readings(text, &["HR_ecg=hr"]), [(100.017, "hr", 57.8)]);
        assert_eq!(read(text, &["HR_ecg=hr"]).unwrap().ignored_columns(), ["SpO2"]);
    }

    #[test]
    fn an_empty_cell_and_not_a_number_are_no_reading_but_zero_is() {
        assert_eq!(readings("t_s,hr\n0,\n1,NaN\n2,0\n", &[]), [(2.0, "hr", 0.0)]);
    }

    #[test]
    fn errors_name_file_and_line_and_end_the_recording() {
        let cases = [
            (
                "t_s,hr\n0,72\n1,fast\n2,70\n",
                "ward.csv:3: 'fast' is not a value of hr; leave the cell empty for no reading",
            ),
            ("t_s,hr\n0,72\nsoon,71\n", "ward.csv:3: 'soon' in column t_s is not a number of seconds"),
            ("t_s,hr\n5,72\n\n4,71\n", "ward.csv:4: time goes back from 5 s to 4 s; sort the rows by t_s"),
            ("t_s,hr\n0,72\n1,71,9\n", "ward.csv:3: 3 cells where the header has 2"),
            ("t_s,hr\r\n0,72\r\nsoon,71\r\n", "ward.csv:3: 'soon' in column t_s is not a number of seconds"),
            (
                "t_s,hr\n0,72\n1,inf\n",
                "ward.csv:3: 'inf' is not a value of hr; leave the cell empty for no reading",
            ),
        ];
        for (text, expected) in cases {
            let mut recording = read(text, &[]).unwrap();
            assert_eq!(recording.next().unwrap().unwrap().value, 72.0);
            assert_eq!(recording.next().unwrap().unwrap_err().to_string(), expected);
            assert!(recording.next().is_none(), "{text}");
        }
    }

    #[test]
    fn a_faulty_row_yields_none_of_its_readings() {
        let mut recording = read("t_s,hr,spo2\n0,72,bad\n", &[]).unwrap();
        assert!(recording.next().unwrap().is_err());
        assert!(recording.next().is_none());
    }

    #[test]
    fn headers_that_cannot_be_played_are_explained() {
        let cases: [(&str, &[&str], &str); 5] = [
            ("", &[], "the first column is ''"),
            ("time,hr\n", &[], "the first column is 'time'"),
            ("t_s,HRV\n", &[], "no column is named after a signal (HRV)"),
            ("t_s,HR\n", &["Puls=pulse"], "no column 'Puls' to map; the columns are HR"),
            ("t_s,HR,hr\n", &[], "columns 'HR' and 'hr' are both hr"),
        ];
        for (text, map, expected) in cases {
            let error = read(text, map).unwrap_err().to_string();
            assert!(error.starts_with("ward.csv:1: ") && error.contains(expected), "{error}");
        }
        assert!(
            Recording::open("/nonexistent.csv", &[])
                .unwrap_err()
                .to_string()
                .starts_with("/nonexistent.csv: ")
        );
    }

    #[test]
    fn a_mapping_is_column_equals_signal() {
        assert!("HR".parse::<Mapping>().is_err());
        assert!(
            "HR=heart"
                .parse::<Mapping>()
                .unwrap_err()
                .starts_with("'heart' is not a signal; they are hr, pulse")
        );
        let mapping: Mapping = "a=b=abp-sys".parse().unwrap();
        assert_eq!((mapping.column.as_str(), mapping.signal.name), ("a=b", "abp-sys"));
    }
}

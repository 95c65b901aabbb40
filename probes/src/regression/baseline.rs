//! A baseline: the runs that later ones are held against, as a file that can be committed. Beside the runs' samples it has each series' histograms
//! in HdrHistogram's own text form (V2, compressed), which other tools read.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use super::conditions::{Conditions, Machine};
use super::sample::{Measure, RunSample, SeriesKey};

/// The format that is written.
const FORMAT: u32 = 1;

/// Why a file is no baseline.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// It is not JSON, or not of this form.
    #[error(
        "this is no whole baseline ({0}); make one with `dwell baseline save NAME` and `dwell baseline export NAME`"
    )]
    Unreadable(String),
    /// A newer dwell wrote it.
    #[error("this baseline has format {0}, this dwell knows {FORMAT}: update dwell")]
    Newer(u32),
    /// What is said of a series does not fit the samples.
    #[error("{0} is damaged or does not fit the samples: export the baseline again")]
    Unfit(String),
}

/// One series of a baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaselineSeries {
    /// Whose runs.
    #[serde(flatten)]
    pub key: SeriesKey,
    /// What they were about.
    pub suites: BTreeSet<String>,
    /// The draft lengths asked for.
    pub draft_lengths: BTreeSet<u32>,
    /// How many.
    pub runs: usize,
    /// By measure: nanoseconds as a compressed HdrHistogram V2 in Base64.
    pub histograms: BTreeMap<String, String>,
}

/// Runs that later ones are held against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The format of this file.
    pub format: u32,
    /// What it is called.
    pub name: String,
    /// When it was saved, in RFC 3339.
    pub saved_at: String,
    /// The dwell that saved it.
    pub version: String,
    /// What it was saved on.
    pub host: Machine,
    /// How the runs were chosen.
    pub settings: BTreeMap<String, String>,
    /// Under what they were made: each version, host and set of settings once; empty where that was not written down.
    #[serde(default)]
    pub conditions: Vec<Conditions>,
    /// The series.
    pub series: Vec<BaselineSeries>,
    /// The runs, oldest first.
    pub samples: Vec<RunSample>,
}

impl Baseline {
    /// A baseline of these runs, made under these conditions, saved on this machine.
    pub fn new(
        name: &str,
        saved_at: String,
        settings: BTreeMap<String, String>,
        conditions: Vec<Conditions>,
        mut samples: Vec<RunSample>,
    ) -> Self {
        samples.sort_by(|a, b| (a.started_ns, &a.id).cmp(&(b.started_ns, &b.id)));
        Self {
            format: FORMAT,
            name: name.to_owned(),
            saved_at,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: Machine::this(),
            settings,
            conditions,
            series: series(&samples),
            samples,
        }
    }

    /// Reads a file's text, and checks that what it says of its series is so.
    pub fn parse(text: &str) -> Result<Self, BaselineError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let unreadable = |why: serde_json::Error| BaselineError::Unreadable(why.to_string());
        let Format { format } = serde_json::from_str(text).map_err(unreadable)?;
        if format > FORMAT {
            return Err(BaselineError::Newer(format));
        }
        let read: Self = serde_json::from_str(text).map_err(unreadable)?;
        let whose: BTreeSet<&SeriesKey> = read.samples.iter().map(|run| &run.key).collect();
        if let Some(key) = whose.iter().find(|key| read.series.iter().all(|it| it.key != ***key)) {
            return Err(BaselineError::Unfit(format!("the series {key}")));
        }
        for series in &read.series {
            let runs = || read.samples.iter().filter(|run| run.key == series.key);
            if series.runs != runs().count() {
                return Err(BaselineError::Unfit(format!("the series {}", series.key)));
            }
            for (name, payload) in &series.histograms {
                let damaged =
                    || BaselineError::Unfit(format!("the histogram {name} of {}", series.key));
                let measure: Measure = name.parse().map_err(|_| damaged())?;
                let points = runs().flat_map(|run| measure.points(run, false));
                let fits = histogram(points.map(|point| point.value)) == decode(payload);
                if !fits {
                    return Err(damaged());
                }
            }
        }
        Ok(read)
    }
}

fn series(samples: &[RunSample]) -> Vec<BaselineSeries> {
    let keys: BTreeSet<&SeriesKey> = samples.iter().map(|run| &run.key).collect();
    keys.into_iter()
        .map(|key| {
            let runs: Vec<&RunSample> = samples.iter().filter(|run| run.key == *key).collect();
            let histograms =
                Measure::of_runs(runs.iter().copied()).into_iter().filter_map(|measure| {
                    let values = runs
                        .iter()
                        .flat_map(|run| measure.points(run, false))
                        .map(|point| point.value);
                    Some((measure.to_string(), encode(values)?))
                });
            BaselineSeries {
                key: key.clone(),
                suites: runs.iter().filter_map(|run| run.suite.clone()).collect(),
                draft_lengths: runs.iter().map(|run| run.draft_length).collect(),
                runs: runs.len(),
                histograms: histograms.collect(),
            }
        })
        .collect()
}

fn histogram(seconds: impl Iterator<Item = f64>) -> Option<Histogram<u64>> {
    let mut histogram = Histogram::<u64>::new(3).ok()?;
    for value in seconds {
        histogram.record(super::rank::nanoseconds(value)).ok()?;
    }
    Some(histogram)
}

fn encode(seconds: impl Iterator<Item = f64>) -> Option<String> {
    let histogram = histogram(seconds)?;
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(&histogram, &mut bytes).ok()?;
    Some(BASE64.encode(bytes))
}

fn decode(payload: &str) -> Option<Histogram<u64>> {
    let bytes = BASE64.decode(payload).ok()?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
}

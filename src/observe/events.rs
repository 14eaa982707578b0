//! Log events: what `tracing` is told anywhere in the program becomes a line of kind `log`.

use std::fmt;
use std::io::Write;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::escape::{json, message, readable, time};
use super::lines::Lines;
use super::settings::{Format, Settings};
use crate::base::clock::Clock;

/// What other crates may say at most: their inner workings are no operator's concern.
const OTHERS: Level = Level::WARN;
const OURS: &str = "sidegate";

/// From now on events of the whole process go to `lines`. Later calls change nothing.
pub fn init(settings: &Settings, lines: &Lines) {
    let events = Events::new(settings, lines);
    let subscriber = tracing_subscriber::registry().with(events);
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Events {
    level: Level,
    lines: Lines,
    clock: Clock,
}

impl Events {
    fn new(settings: &Settings, lines: &Lines) -> Self {
        Self {
            level: settings.level,
            lines: lines.clone(),
            clock: Clock::system(),
        }
    }

    /// More verbose is greater.
    fn most_verbose(&self, target: &str) -> Level {
        let ours = target
            .strip_prefix(OURS)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        if ours {
            self.level
        } else {
            self.level.min(OTHERS)
        }
    }
}

impl<S: Subscriber> Layer<S> for Events {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.most_verbose(metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let now = self.clock.now().wall_micros;
        let metadata = event.metadata();
        self.lines.event(|format, out| {
            let mut said = Said::new(format);
            event.record(&mut said);
            match format {
                Format::Json => {
                    out.extend_from_slice(b"{\"time\":\"");
                    time(out, now);
                    out.extend_from_slice(b"\",\"kind\":\"log\",\"level\":\"");
                    out.extend_from_slice(word(*metadata.level()).as_bytes());
                    out.extend_from_slice(b"\",\"message\":");
                    json(out, &said.message);
                    out.extend_from_slice(b",\"target\":");
                    json(out, metadata.target());
                    out.extend_from_slice(b",\"fields\":{");
                    out.extend_from_slice(&said.fields);
                    out.extend_from_slice(b"}}\n");
                }
                Format::Text => {
                    time(out, now);
                    let _ = write!(out, " {:5} ", metadata.level().as_str());
                    message(out, &said.message);
                    out.extend_from_slice(&said.fields);
                    out.push(b'\n');
                }
            }
        });
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The values of one event, the message apart.
struct Said {
    format: Format,
    message: String,
    fields: Vec<u8>,
}

impl Said {
    fn new(format: Format) -> Self {
        Self {
            format,
            message: String::new(),
            fields: Vec::new(),
        }
    }

    fn name(&mut self, field: &Field) {
        match self.format {
            Format::Json => {
                if !self.fields.is_empty() {
                    self.fields.push(b',');
                }
                json(&mut self.fields, field.name());
                self.fields.push(b':');
            }
            Format::Text => {
                self.fields.push(b' ');
                self.fields.extend_from_slice(field.name().as_bytes());
                self.fields.push(b'=');
            }
        }
    }

    fn text(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        self.name(field);
        match self.format {
            Format::Json => json(&mut self.fields, value),
            Format::Text => readable(&mut self.fields, value),
        }
    }

    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field);
        let _ = write!(self.fields, "{value}");
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field, value);
        } else {
            self.text(field, &value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, level: Level, log: impl FnOnce()) -> String {
        let output = Output::default();
        let lines = Lines::to(output.clone(), format);
        let settings = Settings {
            format,
            level,
            ..Settings::default()
        };
        let subscriber = tracing_subscriber::registry().with(Events::new(&settings, &lines));
        tracing::subscriber::with_default(subscriber, log);
        lines.flush();
        let bytes = output.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_is_one_json_object_with_its_fields() {
        let text = logged(Format::Json, Level::INFO, || {
            tracing::info!(target: "sidegate::store", count = 3, open = true, share = 0.5,
                path = %"a\nb", nan = f64::NAN, "the store \"x\"\nis open");
        });
        assert_eq!(text.matches('\n').count(), 1);
        let mut read: serde_json::Value = serde_json::from_str(&text).unwrap();
        let time = read.as_object_mut().unwrap().remove("time").unwrap();
        assert!(time.as_str().unwrap().ends_with('Z'));
        assert_eq!(
            read,
            serde_json::json!({
                "kind": "log",
                "level": "info",
                "message": "the store \"x\"\nis open",
                "target": "sidegate::store",
                "fields": {"count": 3, "open": true, "share": 0.5, "path": "a\nb", "nan": "NaN"},
            })
        );
    }

    #[test]
    fn the_level_holds_for_us_and_others_say_warnings_at_most() {
        let text = logged(Format::Text, Level::DEBUG, || {
            tracing::debug!(target: "sidegate", "ours-debug");
            tracing::trace!(target: "sidegate::gate", "ours-trace");
            tracing::info!(target: "hyper::proto", "hyper-info");
            tracing::info!(target: "sidegatekeeper", "stranger-info");
            tracing::warn!(target: "rustls", "rustls-warn");
        });
        assert!(text.contains("ours-debug") && text.contains("rustls-warn"));
        assert!(!text.contains("ours-trace") && !text.contains("-info"));
        let quiet = logged(Format::Text, Level::ERROR, || {
            tracing::warn!(target: "rustls", "rustls-warn");
        });
        assert_eq!(quiet, "");
    }

    #[test]
    fn a_token_in_a_message_or_a_field_is_not_written() {
        let token = format!("sgt_{}", "a".repeat(38));
        for format in [Format::Json, Format::Text] {
            let text = logged(format, Level::INFO, || {
                tracing::info!(target: "sidegate", value = %token, debug = ?token, "saw {token}");
            });
            assert!(
                !text.contains("aaaa") && text.contains("redacted"),
                "{text}"
            );
        }
    }
}

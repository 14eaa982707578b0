//! Log events: what `tracing` is told, as lines among the others.

use std::fmt::{Debug, Write as _};
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::Lines;
use super::json::{self, Object, TimeText};
use super::settings::{Format, Settings};

/// Where our own events come from; those of libraries are heard from `warn` on.
const OURS: &str = "sidegate";

/// From now on events of this process become lines. Only the first call in a process has an effect.
pub fn init(settings: &Settings, lines: &Lines) {
    let layer = ToLines {
        lines: lines.clone(),
        level: settings.level,
    };
    let subscriber = tracing_subscriber::registry().with(layer);
    // A second sidecar in one process (in tests) shares the first one's events.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct ToLines {
    lines: Lines,
    level: Level,
}

impl<S: Subscriber> Layer<S> for ToLines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let ours = metadata.target().starts_with(OURS);
        let level = if ours {
            self.level
        } else {
            self.level.min(Level::WARN)
        };
        metadata.is_event() && *metadata.level() <= level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let micros = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
            });
        let format = self.lines.format();
        self.lines.event(|out, time| match format {
            Format::Json => fields.write_json(out, time, micros, metadata),
            Format::Text => fields.write_text(out, time, micros, metadata),
        });
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.others.push((field.name(), format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

impl Fields {
    fn write_json(&self, out: &mut Vec<u8>, time: &mut TimeText, micros: i64, of: &Metadata<'_>) {
        let mut line = Object::begin(out);
        line.time(time, micros);
        line.text("kind", "log");
        line.text("level", level(of));
        line.text("message", &self.message);
        line.text("target", of.target());
        for (name, value) in &self.others {
            line.named(name, value);
        }
        line.end();
    }

    fn write_text(&self, out: &mut Vec<u8>, time: &mut TimeText, micros: i64, of: &Metadata<'_>) {
        time.write(out, micros);
        let _ = write!(out, " {:5} {}", of.level(), self.message.escape_debug());
        for (name, value) in &self.others {
            let _ = write!(out, " {name}=");
            json::text(out, value);
        }
        out.push(b'\n');
    }
}

fn level(of: &Metadata<'_>) -> &'static str {
    match *of.level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

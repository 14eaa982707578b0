//! What the writer of lines promises, with outputs that hang, fail and tear.

use std::sync::mpsc;

use super::*;

/// Keeps what is written; each write waits for a permit while `held`.
#[derive(Clone, Default)]
struct Output {
    seen: Arc<Mutex<Vec<u8>>>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Output {
    fn hold(&self, held: bool) {
        *self.gate.0.lock().unwrap() = held;
        self.gate.1.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8(self.seen.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let held = self.gate.0.lock().unwrap();
        drop(self.gate.1.wait_while(held, |held| *held).unwrap());
        self.seen.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn event(name: &'static str) -> AuditLine<'static> {
    AuditLine {
        event: name,
        ..AuditLine::default()
    }
}

fn filler(lines: &Lines) {
    lines.push(Kind::Access, |_, out| {
        out.resize(64 << 10, b'x');
        out.push(b'\n');
    });
}

#[test]
fn lines_come_out_in_order_and_flush_waits_for_them() {
    let output = Output::default();
    let lines = Lines::to(output.clone(), Format::Text);
    for name in ["one", "two", "three"] {
        lines.audit(&event(name));
    }
    lines.flush();
    let text = output.text();
    let names: Vec<_> = text
        .lines()
        .filter_map(|line| line.rsplit(' ').next())
        .collect();
    assert_eq!(names, ["one", "two", "three"]);
    assert_eq!(lines.dropped(), 0);
    lines.flush();
}

#[test]
fn an_output_that_hangs_blocks_nobody_and_costs_access_lines_before_audit_lines() {
    let output = Output::default();
    output.hold(true);
    let lines = Lines::to(output.clone(), Format::Text);
    for _ in 0..1_000 {
        filler(&lines);
    }
    assert!(lines.dropped() > 900);
    let before = lines.dropped();
    for _ in 0..100 {
        lines.audit(&event("kept"));
    }
    assert_eq!(lines.dropped(), before);
    output.hold(false);
    lines.flush();
    assert_eq!(output.text().matches("AUDIT kept").count(), 100);
}

#[test]
fn audit_lines_are_bounded_too() {
    let output = Output::default();
    output.hold(true);
    let lines = Lines::to(output.clone(), Format::Text);
    for _ in 0..200_000 {
        lines.audit(&event("flood"));
    }
    assert!(lines.dropped() > 0);
    output.hold(false);
}

#[test]
fn a_lone_line_comes_out_without_a_flush() {
    struct Announcing(mpsc::Sender<Vec<u8>>);
    impl Write for Announcing {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (sender, written) = mpsc::channel();
    let lines = Lines::to(Announcing(sender), Format::Text);
    for name in ["first", "second"] {
        lines.audit(&event(name));
        let line = written.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(String::from_utf8(line).unwrap().contains(name));
    }
}

#[test]
fn the_last_owner_to_go_leaves_nothing_unwritten() {
    struct Telling(Output, mpsc::Sender<()>);
    impl Write for Telling {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl Drop for Telling {
        fn drop(&mut self) {
            let _ = self.1.send(());
        }
    }
    let output = Output::default();
    let (sender, ended) = mpsc::channel();
    let lines = Lines::to(Telling(output.clone(), sender), Format::Text);
    lines.audit(&event("last"));
    drop(lines);
    ended.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(output.text().contains("last"));
}

#[test]
fn a_line_torn_by_a_failed_write_does_not_swallow_the_next() {
    /// Takes ten bytes, then fails once, then works.
    struct Tearing(Output, usize);
    impl Write for Tearing {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1 += 1;
            match self.1 {
                1 => self.0.write(&bytes[..10]),
                2 => Err(ErrorKind::StorageFull.into()),
                _ => self.0.write(bytes),
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let output = Output::default();
    let lines = Lines::to(Tearing(output.clone(), 0), Format::Json);
    lines.audit(&event("torn"));
    lines.flush();
    assert_eq!(lines.dropped(), 1);
    lines.audit(&event("whole"));
    lines.flush();
    let text = output.text();
    let last = text.lines().last().unwrap();
    let read: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(read["event"], "whole");
}

//! `promwatch buffer …`: what waits on disk.
//!
//! info, list, cat and verify only read, and work beside a running agent.

use super::carry;
use super::{Args, BufferCommand, EXIT_FAILED, EXIT_OK, Lines, event_line, load, print, say};
use crate::env::RealDisk;
use crate::logger::rfc3339;
use crate::model::Event;
use crate::spool::reader::{self, Report};
use std::path::{Path, PathBuf};

/// The state directory: the option's, else the configuration's.
pub(super) fn state_dir(args: &Args) -> Option<PathBuf> {
    args.state_dir.clone().or_else(|| load(args).settings?.buffer.state_dir)
}

pub(super) fn buffer(args: &Args, command: &BufferCommand) -> u8 {
    if let BufferCommand::Send { file } = command {
        return carry::send(args, file);
    }
    let Some(dir) = state_dir(args) else {
        say(format_args!("no state directory; name it with --state-dir"));
        return EXIT_FAILED;
    };
    let done = match command {
        BufferCommand::Info => info(&dir),
        BufferCommand::List => list(&dir),
        BufferCommand::Cat => cat(&dir),
        BufferCommand::Verify => verify(&dir),
        BufferCommand::Export { file, select, remove } => return carry::export(&dir, file, select, *remove),
        BufferCommand::Import { file } => return carry::import(args, &dir, file),
        BufferCommand::Send { .. } => return EXIT_OK,
        BufferCommand::Drop { select } => return carry::drop_events(&dir, select),
    };
    done.unwrap_or_else(|error| {
        say(format_args!("{}: {error}", dir.display()));
        EXIT_FAILED
    })
}

/// Says on standard error what was skipped; the exit code of a reading command.
fn say_skipped(report: &Report) -> u8 {
    if !report.is_damaged() {
        return EXIT_OK;
    }
    say(format_args!(
        "skipped: {} damaged places, {} torn ends, {} segments of a newer version, {} unreadable files, {} events \
         known to be lost",
        report.damaged,
        report.torn,
        report.newer,
        report.unreadable,
        report.losses.iter().map(|loss| loss.events).sum::<u64>()
    ));
    EXIT_FAILED
}

fn info(dir: &Path) -> std::io::Result<u8> {
    let report = reader::read(dir, &RealDisk, &mut |_| true)?;
    let mut out = Lines::default();
    out.line(format_args!("directory {}", dir.display()));
    out.line(format_args!("events    {} in {} records", report.events, report.records));
    out.line(format_args!("bytes     {} in {} segments and their journal", report.bytes, report.segments));
    if let (Some(oldest_ms), Some(newest_ms)) = (report.oldest_ms, report.newest_ms) {
        out.line(format_args!("oldest    {}", rfc3339(oldest_ms)));
        out.line(format_args!("newest    {}", rfc3339(newest_ms)));
    }
    for stream in &report.streams {
        out.line(format_args!(
            "stream    {} {}: {} events, the oldest of {}",
            stream.key.group,
            stream.key.stream,
            stream.events,
            rfc3339(stream.oldest_ms)
        ));
    }
    out.print();
    Ok(say_skipped(&report))
}

fn list(dir: &Path) -> std::io::Result<u8> {
    let report = reader::read(dir, &RealDisk, &mut |record| {
        let meta = &record.meta;
        let mut out = Lines::default();
        out.line(format_args!(
            "{} {} {} {} events {} bytes{}",
            record.pending.first().unwrap_or(meta.sequence),
            rfc3339(meta.wall_ms),
            meta.key.stream,
            record.events.len(),
            record.events.iter().map(Event::billed_bytes).sum::<usize>(),
            if meta.clock_confirmed { "" } else { " (clock not confirmed)" }
        ));
        out.print() == EXIT_OK
    })?;
    Ok(say_skipped(&report))
}

fn cat(dir: &Path) -> std::io::Result<u8> {
    let report = reader::read(dir, &RealDisk, &mut |record| {
        let mut text = String::new();
        for event in &record.events {
            text.push_str(&event_line(event));
        }
        print(&text) == EXIT_OK
    })?;
    Ok(say_skipped(&report))
}

fn verify(dir: &Path) -> std::io::Result<u8> {
    let report = reader::read(dir, &RealDisk, &mut |_| true)?;
    let mut out = Lines::default();
    let numbers = [
        ("segments", report.segments),
        ("bytes", report.bytes),
        ("records", report.records),
        ("events", report.events),
        ("damaged", report.damaged),
        ("torn", report.torn),
        ("newer", report.newer),
        ("unreadable", report.unreadable),
        ("lost events", report.losses.iter().map(|loss| loss.events).sum()),
    ];
    for (name, number) in numbers {
        out.line(format_args!("{name:<12}{number}"));
    }
    let damaged = report.is_damaged();
    let verdict = if damaged { "damaged: what can be read is delivered, the rest is counted" } else { "sound" };
    out.line(format_args!("{verdict}"));
    out.print();
    Ok(if damaged { EXIT_FAILED } else { EXIT_OK })
}

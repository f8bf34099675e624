//! Writes a tree in the engine's own syntax: no flags, no names, no classes by name, so that nothing can be read otherwise.

use super::class::Class;
use super::syntax::{Look, Node};

/// Matches nothing, in the engine's syntax.
const NEVER: &str = r"[^\x{0}-\x{10FFFF}]";

/// The same pattern for the engine; groups keep their numbers.
pub(super) fn emit(node: &Node) -> String {
    let mut out = String::new();
    write(node, &mut out);
    out
}

fn write(node: &Node, out: &mut String) {
    match node {
        Node::Char(c) => write_char(*c, out),
        Node::Class(class) => write_class(class, out),
        Node::Any { newline: true } => out.push_str("(?s:.)"),
        Node::Any { newline: false } => out.push_str(r"[^\n]"),
        Node::Look(look) => out.push_str(match look {
            Look::TextStart => r"\A",
            Look::TextEnd => r"\z",
            Look::LineStart => "(?m:^)",
            Look::LineEnd => "(?m:$)",
            // In a group of its own: the engine reads \b{ as something else.
            Look::WordBoundary => r"(?:\b)",
            Look::NoWordBoundary => r"(?:\B)",
        }),
        Node::Repeat { node, max: Some(0), .. } => {
            // x{0}: the engine would forget the groups in it and number the following ones anew.
            out.push_str("(?:|");
            out.push_str(NEVER);
            write_group("(?:", node, out);
            out.push(')');
        }
        Node::Repeat { node, min, max, greedy, .. } => {
            write_group("(?:", node, out);
            out.push('{');
            out.push_str(&min.to_string());
            out.push(',');
            if let Some(max) = max {
                out.push_str(&max.to_string());
            }
            out.push_str(if *greedy { "}" } else { "}?" });
        }
        Node::Group(_, node) => write_group("(", node, out),
        Node::Concat(nodes) => nodes.iter().for_each(|node| match node {
            Node::Alternate(_) => write_group("(?:", node, out),
            node => write(node, out),
        }),
        Node::Alternate(nodes) => {
            for (at, node) in nodes.iter().enumerate() {
                if at > 0 {
                    out.push('|');
                }
                write(node, out);
            }
        }
    }
}

fn write_group(open: &str, node: &Node, out: &mut String) {
    out.push_str(open);
    write(node, out);
    out.push(')');
}

fn write_char(c: char, out: &mut String) {
    if c.is_ascii_alphanumeric() || c == '_' {
        out.push(c);
    } else {
        out.push_str(&format!("\\x{{{:X}}}", c as u32));
    }
}

fn write_class(class: &Class, out: &mut String) {
    let start = out.len();
    out.push('[');
    for (low, high) in class.ranges() {
        write_char(low, out);
        if low != high {
            out.push('-');
            write_char(high, out);
        }
    }
    if out.len() == start + 1 {
        out.truncate(start);
        out.push_str(NEVER);
    } else {
        out.push(']');
    }
}

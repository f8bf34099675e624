use super::*;

/// Writes samples as `name{a=b} value @time` and families as `family kind`, in the page's order.
#[derive(Default)]
struct Lines(Vec<String>);

impl Sink for Lines {
    fn sample(&mut self, series: &Series) -> Result<(), Refusal> {
        let labels: Vec<_> = series.labels().map(|(name, value)| format!("{name}={value}")).collect();
        let mut line = format!("{}{{{}}} {}", series.name(), labels.join(","), series.value);
        if let Some(at) = series.timestamp_ms {
            line.push_str(&format!(" @{at}"));
        }
        self.0.push(line);
        Ok(())
    }

    fn family(&mut self, name: &str, kind: Option<MetricType>) -> Result<(), Refusal> {
        self.0.push(format!("{name} {}", kind.map_or("-", MetricType::as_str)));
        Ok(())
    }
}

fn read(format: Format, forgiving: bool, pieces: &[&[u8]]) -> (Vec<String>, Result<BadLines, BadLine>) {
    let mut lines = Lines::default();
    let mut exposition = Exposition::new(format, forgiving);
    for piece in pieces {
        if let Err(bad) = exposition.push(piece, &mut lines) {
            return (lines.0, Err(bad));
        }
    }
    let end = exposition.finish(&mut lines);
    (lines.0, end)
}

fn accepted(format: Format, page: &str, want: &[&str]) {
    let (lines, end) = read(format, false, &[page.as_bytes()]);
    assert_eq!((lines, end.map(|bad| bad.count)), (want.iter().map(|s| (*s).to_owned()).collect(), Ok(0)), "{page:?}");
}

fn refused(format: Format, page: &[u8], line: u64, column: u64, what: &str) {
    let (_, end) = read(format, false, &[page]);
    let page = String::from_utf8_lossy(page);
    let Err(bad) = end else { panic!("{page:?} was accepted") };
    assert_eq!((bad.line, bad.column), (line, column), "{page:?}: {}", bad.text);
    assert!(bad.text.contains(what), "{page:?}: {}", bad.text);
}

#[test]
fn text_that_is_accepted() {
    for (page, want) in [
        ("", &[][..]),
        ("\n \n\t\n", &[]),
        ("x 1\n", &["x{} 1"]),
        // The last line needs no end.
        ("x 1", &["x{} 1"]),
        ("x{a=\"b\"}1", &["x{a=b} 1"]),
        ("x-1", &["x{} -1"]),
        ("a:b_9\t{\ta = \"b\" , }\t2 \t 1500 \n", &["a:b_9{a=b} 2 @1500"]),
        // Commas may be missing.
        ("x{a=\"1\" b=\"2\"} 3", &["x{a=1,b=2} 3"]),
        ("x{} 1", &["x{} 1"]),
        ("x{a=\"\"} 1", &["x{a=} 1"]),
        ("x{a=\"\\\\ \\\" \\n \\x\"} 1", &["x{a=\\ \" \n \\x} 1"]),
        ("x{a=\"1\n2\"} 1\ny 2", &["x{a=1\n2} 1", "y{} 2"]),
        ("x{a=\"1\",a=\"2\",__name__=\"y\"} 1", &["x{a=1,a=2,__name__=y} 1"]),
        ("{\"x.y\"} 1", &["x.y{} 1"]),
        ("{a=\"1\", \"x.y\", \"l.m\"=\"2\"} 1", &["x.y{a=1,l.m=2} 1"]),
        ("{\"a\\\"b\\n\"} 1", &["a\"b\n{} 1"]),
        // Prometheus strips a word's first and last byte without looking whether they are quotes.
        ("{abc} 1", &["b{} 1"]),
        // Blanks before a name are taken for a part of it.
        (" \tx 1", &[" \tx{} 1"]),
        (
            "x NaN\nx +Inf\nx -inf\nx .5\nx 5.\nx +5\nx 1E3",
            &["x{} NaN", "x{} inf", "x{} -inf", "x{} 0.5", "x{} 5", "x{} 5", "x{} 1000"],
        ),
        ("# a comment\n#\n#comment\n# HELPx y\n# HELP\n# TYPE\n# EOF\nx 1", &["x{} 1"]),
        ("# HELP x  any\\nthing\n# HELP x\n# HELP x \n", &["x -", "x -", "x -"]),
        ("#\tTYPE\t x counter\n# TYPE y untyped\n# TYPE \"z.z\" gauge", &["x counter", "y unknown", "z.z gauge"]),
        // Nobody looks at the byte between name and type.
        ("# TYPE x/gauge\n", &["x gauge"]),
        (
            "# TYPE s summary\ns{quantile=\"1\"} 1\nother{quantile=\"0.50\",le=\"1\"} 1",
            &["s summary", "s{quantile=1.0} 1", "other{quantile=0.5,le=1} 1"],
        ),
        (
            "# TYPE h histogram\nh{le=\"10\",quantile=\"1\"} 1\nh{le=\"+inf\"} 1\nh{le=\"x\"} 1",
            &["h histogram", "h{le=10.0,quantile=1} 1", "h{le=+Inf} 1", "h{le=x} 1"],
        ),
        // A NUL between entries ends the page; within a help text and a label value it does not.
        ("x 1\n\0y 2", &["x{} 1"]),
        ("x 1\n# \0\ny 2", &["x{} 1"]),
        ("#a\0\ny 2", &[]),
        ("# HELP x a\0b\nx{a=\"\0\"} 1", &["x -", "x{a=\0} 1"]),
    ] {
        accepted(Format::Text, page, want);
    }
}

#[test]
fn text_that_is_refused() {
    for (page, line, column, what) in [
        (&b"9x 1"[..], 1, 1, "metric name"),
        (b"x 1\n\xef\xbb\xbfx 1", 2, 1, "metric name"),
        (b"x\n", 1, 2, "a value, found the end of the line"),
        (b"x 1\r\n", 1, 3, "not a number, found `1\\r`"),
        (b"x 0x10", 1, 3, "not a number"),
        (b"x 1_0", 1, 3, "not a number"),
        (b"x 1e999", 1, 3, "not a number"),
        (b"x +NaN", 1, 3, "not a number"),
        (b"x 1 2 3", 1, 7, "the end of the line"),
        (b"x 1 2.5", 1, 6, "the end of the line"),
        (b"x 1 -2", 1, 5, "time stamp"),
        (b"x 1 99999999999999999999", 1, 5, "time stamp"),
        (b"x 1{", 1, 4, "time stamp"),
        (b"x {a='b'} 1", 1, 6, "in double quotes"),
        (b"x{a=b} 1", 1, 5, "in double quotes"),
        (b"x{,} 1", 1, 3, "a label name"),
        (b"x{a=\"1\",,} 1", 1, 9, "a label name"),
        (b"x{=\"1\"} 1", 1, 3, "a label name"),
        (b"x{a \"1\"} 1", 1, 5, "expected `=`"),
        (b"x{a.b=\"1\"} 1", 1, 4, "expected a label name, `=`, `,` or `}`"),
        (b"x{\"y\"} 1", 1, 3, "a second metric name"),
        (b"{\"x\",\"y\"} 1", 1, 6, "a second metric name"),
        (b"{a} 1", 1, 2, "in double quotes"),
        (b"{a=\"1\"} 1", 1, 8, "no metric name"),
        (b"x{a=\"1\n", 1, 5, "a quote that is not closed"),
        (b"x 1\ny{a=\"1\n2\\\n\"} 1", 3, 3, "a line end within quotes"),
        (b"x{a=\"\xc3\"} 1", 1, 5, "not UTF-8"),
        (b"{\"\xff\"} 1", 1, 2, "not UTF-8"),
        (b"# TYPE x\n", 1, 9, "unknown metric type"),
        (b"# TYPE x Gauge\n", 1, 10, "unknown metric type, found `Gauge`"),
        (b"# TYPE x gauge \n", 1, 10, "unknown metric type"),
        (b"# TYPE x info\n", 1, 10, "unknown metric type"),
        (b"# TYPE 9 gauge\n", 1, 8, "a metric family"),
        (b"# HELP \n", 1, 8, "a metric family"),
        (b"# HELP x \xff\n", 1, 10, "not UTF-8"),
        ("x 1\ny{ü=\"1\"} 1".as_bytes(), 2, 3, "found `ü=\"1\"} 1`"),
        ("x{a=\"ü\" ; } 1".as_bytes(), 1, 9, "found `; } 1`"),
    ] {
        refused(Format::Text, page, line, column, what);
    }
}

#[test]
fn openmetrics_that_is_accepted() {
    for (page, want) in [
        ("# EOF\n", &[][..]),
        ("# EOF", &[]),
        ("x 1\n# EOF\n", &["x{} 1"]),
        ("x{a=\"b\",} 1 1.0015\n# EOF\n", &["x{a=b} 1 @1001"]),
        ("x 1 -1.5e3\n# EOF\n", &["x{} 1 @-1500000"]),
        ("{\"x.y\",a=\"b\"} 1\n# EOF\n", &["x.y{a=b} 1"]),
        (
            "# TYPE c counter\n# UNIT c_seconds seconds\n# UNIT c \n# HELP c any\\\"thing\n# EOF",
            &["c counter", "c_seconds -", "c -", "c -"],
        ),
        (
            "# TYPE a gaugehistogram\n# TYPE b stateset\n# TYPE c info\n# TYPE d unknown\n# EOF\n",
            &["a gaugehistogram", "b stateset", "c info", "d unknown"],
        ),
        (
            "c_total 1 # {} 0.5\nc_total 2 3 # {a=\"b\",c=\"d\",} 0.5 1.5\nc_created 4\n# EOF\n",
            &["c_total{} 1", "c_total{} 2 @3000", "c_created{} 4"],
        ),
        ("# TYPE s summary\ns{quantile=\"1\"} 1\n# EOF\n", &["s summary", "s{quantile=1.0} 1"]),
        ("x{a=\"\\n\\\\\\\"\\t\"} 1\n# EOF\n", &["x{a=\n\\\"\\t} 1"]),
    ] {
        accepted(Format::OpenMetrics, page, want);
    }
}

#[test]
fn openmetrics_that_is_refused() {
    for (page, line, column, what) in [
        (&b"x 1\n"[..], 2, 1, "does not end with `# EOF`"),
        (b"\n# EOF\n", 1, 1, "metric name"),
        (b"x 1", 1, 4, "end of the line"),
        (b"x 1\n# EOF\n\n", 3, 1, "nothing may follow"),
        (b"# EOFx", 1, 6, "nothing may follow"),
        (b"#EOF", 1, 1, "expected `# HELP `"),
        (b"# comment\n# EOF", 1, 1, "expected `# HELP `"),
        (b"#  TYPE x gauge\n# EOF", 1, 1, "expected `# HELP `"),
        (b"# TYPE x untyped\n# EOF", 1, 10, "unknown metric type"),
        (b"# TYPE x\n# EOF", 1, 9, "a space after the name"),
        (b"# UNIT x seconds\n# EOF", 1, 10, "unit"),
        (b"# UNIT xseconds seconds\n# EOF", 1, 17, "unit"),
        (b"x  1\n# EOF", 1, 3, "one space and a value"),
        (b"x\t1\n# EOF", 1, 2, "one space and a value"),
        (b"x 1 \n# EOF", 1, 5, "one space and a time stamp"),
        (b"x 1 NaN\n# EOF", 1, 5, "not a time stamp"),
        (b"x 1 2 3\n# EOF", 1, 6, "an exemplar or the end"),
        (b"x 1\t2\n# EOF", 1, 3, "not a number"),
        (b"x{a=\"b\", c=\"d\"} 1\n# EOF", 1, 9, "a label name"),
        (b"x{a=\"b\"c=\"d\"} 1\n# EOF", 1, 8, "`,` or `}`"),
        (b"x{a=\"b\n\"} 1\n# EOF", 1, 7, "a line end within quotes"),
        (b"x{a=\"\xff\"} 1\n# EOF", 1, 5, "not UTF-8"),
        (b"x 1 # {a=\"b\"}\n# EOF", 1, 14, "a value"),
        (b"x 1 # {\"a\"=\"b\"} 1\n# EOF", 1, 8, "exemplar"),
        (b"x 1 # {a=\"\xff\"} 1\n# EOF", 1, 10, "not UTF-8"),
        (b"x 1 # {} 1 inf\n# EOF", 1, 12, "not a time stamp"),
        (b"x 1 # {} 1 1 # {} 1\n# EOF", 1, 13, "after the exemplar"),
    ] {
        refused(Format::OpenMetrics, page, line, column, what);
    }
}

#[test]
fn forgiving_mode_keeps_the_good_lines_and_shows_the_first_bad_ones() {
    let page = "a 1\nb x\nc 2\nd{l=\"open} 1\ne 3\n# TYPE f nothing\ng 4 5 6\nh{\ni{\nj{\nk 7";
    let (lines, end) = read(Format::Text, true, &[page.as_bytes()]);
    assert_eq!(lines, ["a{} 1", "c{} 2", "e{} 3", "k{} 7"]);
    let bad = end.expect("forgiven");
    assert_eq!(bad.count, 7);
    assert_eq!(bad.first.len(), MAX_BAD_LINES_KEPT);
    assert_eq!(bad.first.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 4, 6, 7, 8]);
    assert_eq!(bad.first[0].to_string(), "line 2, column 3: not a number, found `x`");

    let (lines, end) = read(Format::OpenMetrics, true, &[b"a 1\n\nb 2\nc 3"]);
    assert_eq!(lines, ["a{} 1", "b{} 2"]);
    assert_eq!(end.map(|bad| bad.count), Ok(3), "the empty line, the line without its end, the missing `# EOF`");
}

#[test]
fn a_sink_refuses_a_line_or_the_page() {
    struct Refuses(bool);
    impl Sink for Refuses {
        fn sample(&mut self, series: &Series) -> Result<(), Refusal> {
            match series.name() {
                "bad" => Err(Refusal { whole_page: self.0, text: "no".to_owned() }),
                _ => Ok(()),
            }
        }
        fn family(&mut self, _: &str, _: Option<MetricType>) -> Result<(), Refusal> {
            Ok(())
        }
    }
    let read = |forgiving, whole_page| {
        let mut exposition = Exposition::new(Format::Text, forgiving);
        exposition.push(b"good 1\nbad 2\ngood 3\n", &mut Refuses(whole_page))?;
        exposition.finish(&mut Refuses(whole_page))
    };
    assert_eq!(read(true, false).map(|bad| bad.count), Ok(1));
    for (forgiving, whole_page) in [(true, true), (false, true), (false, false)] {
        assert_eq!(read(forgiving, whole_page).map_err(|bad| bad.line), Err(2));
    }
}

#[test]
fn an_entry_is_at_most_a_mebibyte_long() {
    let fits = format!("x{{a=\"{}\"}} 1\n", "v".repeat(MAX_ENTRY_BYTES - 10));
    assert_eq!(fits.len(), MAX_ENTRY_BYTES);
    let too_long = format!("x{{a=\"{}\"}} 1\n", "v".repeat(MAX_ENTRY_BYTES - 9));
    for piece_bytes in [1000, 1 << 16, 1 << 22] {
        let pieces = |page: &'static [u8]| page.chunks(piece_bytes).collect::<Vec<_>>();
        let fits: &'static [u8] = fits.clone().leak().as_bytes();
        assert!(read(Format::Text, false, &pieces(fits)).1.is_ok());
        let page: &'static [u8] = format!("y 1\n{too_long}z 2\n").leak().as_bytes();
        let (_, end) = read(Format::Text, false, &pieces(page));
        assert_eq!(end.map_err(|bad| (bad.line, bad.text.contains("longer than 1 MiB"))), Err((2, true)));
        let (lines, end) = read(Format::Text, true, &pieces(page));
        assert_eq!((lines, end.map(|bad| bad.count)), (vec!["y{} 1".to_owned(), "z{} 2".to_owned()], Ok(1)));
    }
}

/// Line ends in quotes keep the entry open; reading it anew at every byte would take minutes.
#[test]
fn an_entry_that_never_ends_costs_its_length_only() {
    let mut exposition = Exposition::new(Format::Text, false);
    exposition.push(b"x{a=\"", &mut Lines::default()).expect("nothing wrong yet");
    let mut pushed = 0;
    while exposition.push(b"\n", &mut Lines::default()).is_ok() {
        pushed += 1;
        assert!(exposition.pending.len() <= 2 * MAX_ENTRY_BYTES + 1);
    }
    assert!((MAX_ENTRY_BYTES - 5..=2 * MAX_ENTRY_BYTES).contains(&pushed));
}

#[test]
fn what_comes_out_does_not_depend_on_the_pieces() {
    let pages = [
        "# TYPE x counter\nx{a=\"b\nc\",d=\"\\\\\"} 1 2\n\n# HELP y \u{fc}\u{1f600}\ny{quantile=\"1\"} 2\r\n",
        "x 1\n{\"a.b\",c=\"d\"} 2\n\0x 3",
        "x{a=\"\0\0\"\0} 1\n# HE\0LP x\0\ny 2\nz{a=\"\u{fc}\" 1\n",
        "# TYPE x_s gauge\n# UNIT x_s s\nx_s 1 2 # {a=\"b\"} 3 4\n# EOF\n",
        "# TYPE x_s gauge\n\0x_s 1\n# EOF\n\0\0",
        "# HELP x y\n\0\0# EOF\n\nx 1",
    ];
    let mut seed = 1_u32;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % below
    };
    for format in [Format::Text, Format::OpenMetrics] {
        for forgiving in [false, true] {
            for page in pages {
                let whole = read(format, forgiving, &[page.as_bytes()]);
                let single: Vec<_> = page.as_bytes().chunks(1).collect();
                assert_eq!(read(format, forgiving, &single), whole, "{page:?}");
                for _ in 0..50 {
                    let mut rest = page.as_bytes();
                    let mut pieces = Vec::new();
                    while !rest.is_empty() {
                        let (piece, after) = rest.split_at(random(rest.len() + 1));
                        pieces.push(piece);
                        rest = after;
                    }
                    assert_eq!(read(format, forgiving, &pieces), whole, "{pieces:?}");
                }
            }
        }
    }
}

// Compares promwatch's exposition parsers with those of Prometheus on random pages: fragments of the formats put together
// at random, and mutations of whole pages. Usage: exposition DUMP_PROGRAM PAGES_FOLDER SECONDS [SEED]
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

type answer struct {
	bad  string
	dump []byte
}

func text(out *bytes.Buffer, s string) {
	binary.Write(out, binary.LittleEndian, uint32(len(s)))
	out.WriteString(s)
}

func judge(page []byte, openMetrics bool) (result answer) {
	defer func() {
		if r := recover(); r != nil {
			result = answer{bad: fmt.Sprint("panic: ", r)}
		}
	}()
	contentType := "text/plain"
	if openMetrics {
		contentType = "application/openmetrics-text"
	}
	// The parser appends to its input.
	copied := append(make([]byte, 0, len(page)+64), page...)
	p, err := textparse.New(copied, contentType, "", false, false, labels.NewSymbolTable())
	if err != nil {
		return answer{bad: err.Error()}
	}
	var out bytes.Buffer
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return answer{dump: out.Bytes()}
		}
		if err != nil {
			return answer{bad: err.Error()}
		}
		family := func(name []byte, kind string) {
			if utf8.Valid(name) {
				out.WriteByte('F')
				text(&out, string(name))
				text(&out, kind)
			}
		}
		switch entry {
		case textparse.EntryType:
			name, kind := p.Type()
			family(name, string(kind))
		case textparse.EntryHelp:
			name, _ := p.Help()
			family(name, "")
		case textparse.EntryUnit:
			name, _ := p.Unit()
			family(name, "")
		case textparse.EntrySeries:
			_, timestamp, value := p.Series()
			var lset labels.Labels
			p.Metric(&lset)
			sort.SliceStable(lset, func(a, b int) bool { return lset[a].Name < lset[b].Name })
			out.WriteByte('S')
			binary.Write(&out, binary.LittleEndian, uint32(lset.Len()))
			for _, l := range lset {
				if !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value) {
					return answer{bad: "invalid label"}
				}
				text(&out, l.Name)
				text(&out, l.Value)
			}
			binary.Write(&out, binary.LittleEndian, math.Float64bits(value))
			if timestamp == nil {
				out.WriteByte(0)
				binary.Write(&out, binary.LittleEndian, int64(0))
			} else {
				if *timestamp == math.MinInt64 {
					// Out of range: what Go makes of it depends on the machine.
					return answer{bad: "skip"}
				}
				out.WriteByte(1)
				binary.Write(&out, binary.LittleEndian, *timestamp)
			}
		}
	}
}

var textFragments = []string{
	"# HELP ", "# TYPE ", "# UNIT ", "# EOF", "# EOF\n", "#", "# ", "#\t", "HELP", "TYPE x gauge\n", "# TYPE x summary\n",
	"# TYPE x_seconds histogram\n", "# TYPE c counter\n", "# UNIT x_seconds seconds\n", "# HELP x a \\n b \\\\ c\n", "# TYPE \"u.x\" gauge\n",
	"x", "x_total", "_a:b", "u.x", "9", "{", "}", "=", ",", "\"", "\\", "\\\"", "\\n", "\\x", "\n", "\n", "\n", " ", " ", " ", "\t",
	"a=\"b\"", "a=\"b\",", "le=\"1\"", "quantile=\"0.50\"", "quantile=\"1e9\"", "le=\"+Inf\"", "\"u.x\"", "\"l.x\"=\"v\"", "__name__=\"y\"", "a=\"\"",
	"a=\"x\ny\"", "a=\"\u00fc\"", "a=\"\xff\"", "\x00", "\x00", "\r", "\r\n", "\ufeff", "\xc3",
	"1", "0", "-1", "+5", ".5", "5.", "1e3", "1E-9", "1e999", "1e-999", "0x1p3", "0x10", "1_000", "NaN", "nan", "+NaN", "-nan", "Inf", "-inf", "+Infinity", "infin",
	"123456789012", "-5", "1.5", "1520879607.789", "99999999999999999999", " # {", " # {a=\"b\"} 1", " # {} 1 2\n", " # {a=\"b\",} 0.5 1.5\n", "# {", "# {a}",
	"x 1\n", "x{a=\"b\"} 1\n", "x{a=\"b\",} 1 2\n", "{\"u.x\",a=\"b\"} 2\n", "{ab} 1\n", "{a} 1\n", "x_bucket{le=\"0.10\"} 3\n", "x{quantile=\"2\"} 3\n", " x 1\n", "x 1 5\n",
	"x_created 1.5e9\n", "c_total 1.0 # {id=\"x\"} 0.5 123.4\n", "", "counter", "gauge", "stateset", "info", "unknown", "untyped", " gauge\n", "gaugehistogram\n",
}

// labelNumber leaves out what promwatch deliberately does not read in the labels le and quantile.
func labelNumber(r *rand.Rand) string {
	for {
		if s := number(r); !strings.ContainsAny(s, "xXpP") {
			return s
		}
	}
}

func assemble(r *rand.Rand) []byte {
	var out bytes.Buffer
	for n := 1 + r.Intn(14); n > 0; n-- {
		out.WriteString(textFragments[r.Intn(len(textFragments))])
	}
	if r.Intn(2) == 0 {
		out.WriteString("\n# EOF\n")
	}
	return out.Bytes()
}

func number(r *rand.Rand) string {
	switch r.Intn(4) {
	case 0:
		return strconv.FormatFloat(math.Float64frombits(r.Uint64()), 'g', -1, 64)
	case 1:
		return strconv.FormatFloat(r.NormFloat64()*math.Pow(10, float64(r.Intn(30)-15)), 'f', r.Intn(20), 64)
	case 2:
		return strconv.Itoa(r.Intn(100000) - 50000)
	}
	const alphabet = "0123456789.eE+-naifNIF_xXp"
	var s []byte
	for n := 1 + r.Intn(8); n > 0; n-- {
		s = append(s, alphabet[r.Intn(len(alphabet))])
	}
	return string(s)
}

// wellFormed makes a page that is nearly always accepted, so that the differences lie in what is read.
func wellFormed(r *rand.Rand, openMetrics bool) []byte {
	var out bytes.Buffer
	kinds := []string{"counter", "gauge", "summary", "histogram"}
	for n := 1 + r.Intn(6); n > 0; n-- {
		if r.Intn(2) == 0 {
			fmt.Fprintf(&out, "# TYPE m%d %s\n", n, kinds[r.Intn(4)])
		}
		if r.Intn(4) == 0 {
			fmt.Fprintf(&out, "m%d{le=\"%s\",quantile=\"%s\"} %s\n", n, labelNumber(r), labelNumber(r), "1")
		}
		fmt.Fprintf(&out, "m%d{l=\"%s\"} %s", n, []string{"", "a", "\\\\n", "\u00fc\\\"", "\\t", "\x00a"}[r.Intn(6)], number(r))
		if r.Intn(3) == 0 {
			fmt.Fprintf(&out, " %s", number(r))
		}
		out.WriteByte('\n')
	}
	if openMetrics {
		out.WriteString("# EOF\n")
	}
	return out.Bytes()
}

func mutate(r *rand.Rand, page []byte) []byte {
	// A slice of some lines keeps the pages short.
	lines := bytes.SplitAfter(page, []byte("\n"))
	from := r.Intn(len(lines))
	to := min(len(lines), from+1+r.Intn(12))
	out := append([]byte(nil), bytes.Join(lines[from:to], nil)...)
	for n := r.Intn(4); n > 0 && len(out) > 0; n-- {
		at := r.Intn(len(out))
		switch r.Intn(5) {
		case 0:
			out = append(out[:at], out[at+1:]...)
		case 1:
			out[at] = byte(r.Intn(256))
		case 2:
			f := textFragments[r.Intn(len(textFragments))]
			out = append(out[:at], append([]byte(f), out[at:]...)...)
		case 3:
			out[at] = "\x00\n\t \"\\{}=,#"[r.Intn(11)]
		case 4:
			out = out[:at]
		}
	}
	if r.Intn(2) == 0 {
		out = append(out, "# EOF\n"...)
	}
	return out
}

func main() {
	seconds, err := strconv.Atoi(os.Args[3])
	if err != nil {
		panic(err)
	}
	seed := time.Now().UnixNano()
	if len(os.Args) > 4 {
		seed, _ = strconv.ParseInt(os.Args[4], 10, 64)
	}
	r := rand.New(rand.NewSource(seed))
	var pages [][]byte
	filepath.Walk(os.Args[2], func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			if page, err := os.ReadFile(path); err == nil && len(page) > 0 {
				pages = append(pages, page)
			}
		}
		return nil
	})
	child := exec.Command(os.Args[1])
	child.Stderr = os.Stderr
	in, _ := child.StdinPipe()
	out, _ := child.StdoutPipe()
	if err := child.Start(); err != nil {
		panic(err)
	}
	writer, reader := bufio.NewWriter(in), bufio.NewReader(out)
	ask := func(page []byte, openMetrics bool) answer {
		format := byte(0)
		if openMetrics {
			format = 1
		}
		binary.Write(writer, binary.LittleEndian, uint32(len(page)+2))
		writer.Write([]byte{format, byte(r.Intn(256))})
		writer.Write(page)
		writer.Flush()
		var n uint32
		if err := binary.Read(reader, binary.LittleEndian, &n); err != nil {
			fmt.Printf("promwatch's parser died on %q\n", page)
			os.Exit(1)
		}
		dump := make([]byte, n)
		io.ReadFull(reader, dump)
		if n > 0 && dump[0] == 'E' {
			return answer{bad: string(dump[1:])}
		}
		return answer{dump: dump}
	}
	compared, accepted, different := 0, 0, 0
	check := func(page []byte, openMetrics bool) {
		want := judge(page, openMetrics)
		if want.bad == "skip" {
			return
		}
		got := ask(page, openMetrics)
		compared++
		if want.bad == "" {
			accepted++
		}
		if (want.bad == "") != (got.bad == "") || (want.bad == "" && !bytes.Equal(want.dump, got.dump)) {
			different++
			if different <= 10 {
				fmt.Printf("DIFFERENT openmetrics=%v page %q\n  Prometheus: %q %q\n  promwatch:  %q %q\n", openMetrics, page, want.bad, want.dump, got.bad, got.dump)
			}
		}
	}
	for _, page := range pages {
		check(page, false)
		check(page, true)
	}
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end); {
		openMetrics := r.Intn(2) == 0
		var page []byte
		switch r.Intn(4) {
		case 0, 1:
			page = assemble(r)
		case 2:
			page = wellFormed(r, openMetrics)
		case 3:
			page = mutate(r, pages[r.Intn(len(pages))])
		}
		check(page, openMetrics)
	}
	fmt.Printf("seed %d: %d pages compared, %d accepted by Prometheus, %d different\n", seed, compared, accepted, different)
	if different > 0 {
		os.Exit(1)
	}
}

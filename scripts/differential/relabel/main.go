// Makes random patterns, relabelling rules and target groups, and writes each with the verdict of Go's regexp and of Prometheus'
// own packages: one JSON object per line. The test `differential_relabel` holds promwatch against it; see run.sh.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"math/rand"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/grafana/regexp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/scrape"
)

var random *rand.Rand

func pick(list []string) string { return list[random.Intn(len(list))] }

func some(list []string, most int) string {
	var b strings.Builder
	for range random.Intn(most + 1) {
		b.WriteString(pick(list))
	}
	return b.String()
}

// Pieces of patterns, good and bad, among them all that another engine might read otherwise.
var pieces = []string{
	"a", "b", "c", "ab", "A", "k", "s", "é", "ſ", "-", ";", " ", "#", "&", "~", "<", ">", "_", "1", "0", "\n", "/", ":", ",", "=", "!", "%", "\"", "'",
	".", ".*", ".+", ".?", "*", "+", "?", "*?", "+?", "??", "|", "|", "(", "(", ")", ")", "(?:", "(?P<n>", "(?<m>", "(?P<1>", "(?P<n-1>", "(?P=n)", "(?'n'", "^", "$",
	"(?i)", "(?s)", "(?m)", "(?U)", "(?-s)", "(?i:", "(?ms-i:", "(?i-)", "(?)", "(?-:", "(?x)", "(?u)", "(?R)", "(?is)", "(?=", "(?!", "(?<=", "(?>", "(?#",
	"{2}", "{1,2}", "{,2}", "{2,}", "{0}", "{0,1}", "{1001}", "{2,1}", "{ 2}", "{02}", "{", "}", "{a}", "{1,2,3}", "{500}",
	"[a]", "[^a]", "[a-c]", "[]", "[]a]", "[^]a]", "[", "]", "[a-]", "[-a]", "[a-b-c]", "[--a]", "[a--b]", "[a&&b]", "[a~~b]", "[[a]", "[[:alpha:]]", "[[:^alpha:]]",
	"[[:foo:]]", "[:alpha:]", "[[:word:]-a]", "[\\d-z]", "[a-\\d]", "[\\]]", "[\\Q]", "[\\x41-\\x{43}]", "[\\w\\s]", "[^\\S]", "[é-ü]", "[z-a]", "[ k]", "[\\b]", "[^\\x00-\\x{10FFFF}]", "[.*]",
	"\\", "\\d", "\\D", "\\w", "\\W", "\\s", "\\S", "\\b", "\\B", "\\A", "\\z", "\\Z", "\\C", "\\Qa.b\\E", "\\Q", "\\E", "\\Q(\\E", "\\x41", "\\x{62}", "\\x{}", "\\xg", "\\x{110000}", "\\101", "\\0", "\\08", "\\1", "\\8",
	"\\n", "\\t", "\\a", "\\f", "\\v", "\\r", "\\e", "\\h", "\\R", "\\K", "\\G", "\\u0041", "\\U", "\\<", "\\>", "\\-", "\\_", "\\.", "\\#", "\\ ", "\\é", "\\b{start}", "\\pL", "\\p{Greek}", "\\PN", "\\p", "\\cA",
}

// Pieces that seldom make a bad pattern.
var tame = []string{
	"a", "b", "c", "ab", "bc", "é", ".*", ".+", ".", "a*", "b+?", "c?", "(a|b)", "(ab|a|)", "(.*)", "(.+)", "(a)?", "(?:b|c)", "[ab]", "[^a]+", "(?i:A)", "(?i)", "\\w+", "(?P<n>b*)", "|", "^", "$", "(a*)*", "(a|b*)+", "(|a)+", "(a??)*",
	"(?:a{0,2})", "(a{2})?", "(b{1,})", "x{0}", "(x){0}", "\\b", "(?m:^)", "(?m:$)", "(?s:.)", "(?-s:.)", "(?U:a*)", "(?:(a)|b)*", "(?:(a)|(b)|c)*", "\\d*", "(?:)", "()",
}

var letters = []string{"a", "b", "c", "A", "k", "K", "\u212a", "s", "ſ", "é", "É", "1", "0", "-", ";", " ", "#", "&", "~", "\n", "\v", ".", "_", "/", "(", "{", "}", "]", "[", "\\", "x", "E", "Q", ","}

var templates = []string{"$1", "$2", "${1}", "$1x", "${1}x", "$n", "${n}", "$m$0", "$$", "$", "$$1", "${", "${1", "$-", "$01", "$999", "x", "é$1é", "$_", "${n-1}", "$é", ""}

func template() string { return some(templates, 2) }

type text struct {
	Text     string
	Match    bool
	Groups   []*string
	Expanded string
	Replaced string
}

func pattern() map[string]any {
	source := some(pieces, 6)
	if random.Intn(3) > 0 {
		source = some(tame, 6)
	}
	anchored := random.Intn(2) == 0
	whole := source
	if anchored {
		whole = "^(?s:" + source + ")$"
	}
	re, err := regexp.Compile(whole)
	out := map[string]any{"kind": "pattern", "source": source, "anchored": anchored, "ok": err == nil}
	if err != nil {
		out["error"] = err.Error()
		return out
	}
	t := template()
	var texts []text
	for range 8 {
		list := letters
		if random.Intn(2) == 0 {
			list = []string{"a", "b", "c", "ab", "A", "é"}
		}
		s := some(list, 6)
		found := re.FindStringSubmatchIndex(s)
		one := text{Text: s, Match: re.MatchString(s)}
		if found != nil {
			for i := 0; i < len(found); i += 2 {
				var group *string
				if found[i] >= 0 {
					g := s[found[i]:found[i+1]]
					group = &g
				}
				one.Groups = append(one.Groups, group)
			}
			one.Expanded = string(re.ExpandString(nil, t, s, found))
			one.Replaced = re.ReplaceAllString(s, t)
		}
		texts = append(texts, one)
	}
	out["template"] = t
	out["texts"] = texts
	return out
}

var names = []string{"a", "b", "ab", "job", "instance", "__tmp", "__name__", "x_a", "__address__", "__param_q", "__scheme__", "__metrics_path__", "__scrape_interval__", "__scrape_timeout__", "__meta_x", "é"}
var values = []string{"a", "b", "ab", "foo", "Bar", "ÀÉß", "İıſ", "ᾀ-ŉ", "a;b", "b\na", "42", "host:9100", "10.0.0.1:80", "[::1]:9", "1m", "30s", "5s", "https", "/m", "a b&c?d%", "ΑΣ σς", "a/b", ""}
var regexes = []string{"(.*)", "", "a", "a|b", "(a|ab|)(.*)", "(.+);(.*)", "x_(.*)", "(a)?b?", "[ab]+", "(?P<n>.)(.*)", "é|4.", ".*a.*", "(?i)bar", "__meta_(.+)", "__(.*)__", "(.*):\\d+", "([^:]+)(?::\\d+)?", ".*", ".+", "(.)(.)?", "(job|instance)", "a)|(?s:b", "(a|ab)(b|)", "\\Q42\\E", "foo|bar|b.*"}
var actions = []relabel.Action{relabel.Replace, relabel.Replace, relabel.Replace, relabel.Keep, relabel.Drop, relabel.KeepEqual, relabel.DropEqual, relabel.HashMod, relabel.LabelMap, relabel.LabelMap, relabel.LabelDrop, relabel.LabelKeep, relabel.Lowercase, relabel.Uppercase}

func rule() *relabel.Config {
	c := &relabel.Config{
		Separator:   pick([]string{";", "", "-", ";;"}),
		Modulus:     uint64(1 + random.Intn(1000)),
		TargetLabel: pick(names),
		Replacement: pick([]string{"$1", "$1", "${1}", "x_$1", "$2$1", "${n}", "new", "", "$0", "é$1", "1m", "a:1"}),
		Action:      actions[random.Intn(len(actions))],
	}
	regex := pick(regexes)
	if random.Intn(4) == 0 {
		regex = some(tame, 3)
	}
	re, err := relabel.NewRegexp(regex)
	if err != nil {
		return rule()
	}
	c.Regex = re
	for range random.Intn(3) {
		c.SourceLabels = append(c.SourceLabels, model.LabelName(pick(names)))
	}
	if random.Intn(4) == 0 {
		c.TargetLabel = pick([]string{"$1", "${1}_x", "x_$2", "$n", "${0}"})
		c.Action = relabel.Replace
	}
	// What an ordinary configuration would not contain is refused before: make it the default.
	switch c.Action {
	case relabel.Lowercase, relabel.Uppercase:
		c.Replacement = "$1"
	case relabel.KeepEqual, relabel.DropEqual:
		target, source := c.TargetLabel, c.SourceLabels
		*c = relabel.DefaultRelabelConfig
		c.TargetLabel, c.SourceLabels, c.Action = target, source, actions[5+random.Intn(2)]
	case relabel.LabelDrop, relabel.LabelKeep:
		action := c.Action
		*c = relabel.DefaultRelabelConfig
		c.Regex, c.Action = re, action
	case relabel.LabelMap:
		c.Replacement = pick([]string{"$1", "x_$1", "${n}a", "a", "${1}${2}"})
	}
	if c.Action != relabel.HashMod {
		c.Modulus = 0
	}
	if c.Validate() != nil {
		return rule()
	}
	return c
}

func rules(most int) (list []*relabel.Config, shown []map[string]any) {
	for range random.Intn(most + 1) {
		c := rule()
		list = append(list, c)
		shown = append(shown, map[string]any{"source_labels": c.SourceLabels, "separator": c.Separator, "regex": c.Regex.String(), "modulus": c.Modulus,
			"target_label": c.TargetLabel, "replacement": c.Replacement, "action": string(c.Action)})
	}
	return
}

func pairs(set labels.Labels) [][2]string {
	out := [][2]string{}
	set.Range(func(l labels.Label) { out = append(out, [2]string{l.Name, l.Value}) })
	return out
}

func relabelling() map[string]any {
	set := map[string]string{}
	for range random.Intn(6) {
		set[pick(names)] = pick(values[:len(values)-1])
	}
	base := labels.FromMap(set)
	list, shown := rules(5)
	out, keep := relabel.Process(base, list...)
	return map[string]any{"kind": "relabel", "labels": pairs(base), "rules": shown, "keep": keep, "out": pairs(out)}
}

func target() map[string]any {
	params := map[string][]string{}
	for range random.Intn(3) {
		var list []string
		for range random.Intn(3) {
			list = append(list, pick(values))
		}
		params[pick([]string{"q", "module", "é", "a b", ""})] = list
	}
	list, shown := rules(3)
	cfg := &config.ScrapeConfig{
		JobName: "j", ScrapeInterval: model.Duration(time.Duration(1+random.Intn(200)) * 500 * time.Millisecond), ScrapeTimeout: model.Duration(500 * time.Millisecond),
		MetricsPath: pick([]string{"/metrics", "m", "/a b?c%é*!", "*", "", "//x"}), Scheme: pick([]string{"http", "https"}), Params: params, RelabelConfigs: list,
	}
	address := pick([]string{"host:9100", "a", "", "[::1]:1", "é b", "http://a", "a/b", "A.b:80", "a?b#c", "u@h", "a%b"})
	group := map[string]string{}
	for range random.Intn(4) {
		group[pick(names)] = pick(values)
	}
	set := model.LabelSet{}
	for n, v := range group {
		set[model.LabelName(n)] = model.LabelValue(v)
	}
	tg := &targetgroup.Group{Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(address)}}, Labels: set, Source: "s"}
	result := func() (url string, public [][2]string, failed bool) {
		targets, failures := scrape.TargetsFromGroup(tg, cfg, nil, labels.NewBuilder(labels.EmptyLabels()))
		for _, t := range targets {
			var builder labels.ScratchBuilder
			if set := t.Labels(&builder); !set.IsEmpty() {
				url, public = t.URL().String(), pairs(set)
			}
		}
		return url, public, len(failures) > 0
	}
	url, public, failed := result()
	for range 40 {
		// Go walks maps in no order, and a labelmap can tell: such a case has no one answer.
		if u, p, f := result(); u != url || f != failed || !slices.Equal(p, public) {
			return target()
		}
	}
	out := map[string]any{"kind": "target", "interval_ms": time.Duration(cfg.ScrapeInterval).Milliseconds(), "timeout_ms": time.Duration(cfg.ScrapeTimeout).Milliseconds(),
		"path": cfg.MetricsPath, "scheme": cfg.Scheme, "params": params, "rules": shown, "address": address, "labels": set, "failed": failed}
	if public != nil {
		out["url"], out["out"] = url, public
	}
	return out
}

func main() {
	seed := flag.Int64("seed", time.Now().UnixNano(), "where the random numbers start")
	count := flag.Int("count", 20000, "how many cases of each kind")
	flag.Parse()
	// As in Prometheus 3's main and in the CloudWatch agent.
	model.NameValidationScheme = model.UTF8Validation
	random = rand.New(rand.NewSource(*seed))
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for range *count {
		for _, make := range []func() map[string]any{pattern, relabelling, target} {
			if err := enc.Encode(make()); err != nil {
				panic(err)
			}
		}
	}
}

package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
)

func linearizable(t *testing.T, lines ...string) bool {
	t.Helper()
	path := filepath.Join(t.TempDir(), "record.jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	histories := map[string][]porcupine.Operation{}
	if err := read(path, histories); err != nil {
		t.Fatal(err)
	}
	return porcupine.CheckOperations(register, histories["a"])
}

func post(kind, note, sent, at string) string {
	return `{"kind":"` + kind + `","event_id":"a","note":"` + note + `","sent":` + sent + `,"at":` + at + `}`
}

func TestAStatusThatIsRecordedTwiceWasGoneInBetween(t *testing.T) {
	first := post("acknowledged", "recorded", "1", "2")
	if linearizable(t, first, post("repeated", "recorded", "3", "4")) {
		t.Error("two posts one after the other were both the first, and that was taken")
	}
	if !linearizable(t, first, post("repeated", "duplicate", "3", "4")) {
		t.Error("a repeated post was refused")
	}
}

func TestAPostWithoutAnAnswerMayHaveTakenEffectOrNot(t *testing.T) {
	unanswered := post("unanswered", "", "1", "2")
	for _, note := range []string{"recorded", "duplicate"} {
		if !linearizable(t, unanswered, post("acknowledged", note, "3", "4")) {
			t.Errorf("%s after a post without an answer was refused", note)
		}
	}
	if linearizable(t, post("acknowledged", "duplicate", "1", "2"), post("unanswered", "", "3", "4")) {
		t.Error("a post was a duplicate of a later one, and that was taken")
	}
}

func TestOfPostsWithoutAnAnswerTheFirstOneStandsForAll(t *testing.T) {
	var lines []string
	for range 64 {
		lines = append(lines, post("unanswered", "", "5", "6"))
	}
	lines = append(lines, post("unanswered", "", "1", "9"))
	if !linearizable(t, append(lines, post("acknowledged", "duplicate", "2", "3"))...) {
		t.Error("the one that was sent first could have set it")
	}
	history := add(nil, porcupine.Operation{Call: 5, Return: math.MaxInt64})
	history = add(history, porcupine.Operation{Call: 1, Return: math.MaxInt64})
	if len(history) != 1 || history[0].Call != 1 {
		t.Errorf("kept %v", history)
	}
}

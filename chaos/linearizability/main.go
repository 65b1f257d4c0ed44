// Command linearizability checks the record of a run of simulated devices.
//
// Each status is a register of its own in the database: the first post of it sets the register and
// is answered "recorded", every later one reads it and is answered "duplicate". A history in which
// a post is answered "recorded" after another was acknowledged is not linearizable: in between, the
// write was gone. A post without an answer may have taken effect at any later time, or never.
//
//	linearizability RECORD...
//
// Prints the number of registers and operations. Exit code 1: a history is not linearizable, and
// the register is named. Exit code 2: a record cannot be read.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

const limit = 5 * time.Minute

type line struct {
	Kind    string  `json:"kind"`
	EventID string  `json:"event_id"`
	Note    string  `json:"note"`
	Sent    float64 `json:"sent"`
	At      float64 `json:"at"`
}

// register is what one status is: set or not.
var register = porcupine.Model{
	Init: func() interface{} { return false },
	Step: func(state, _, output interface{}) (bool, interface{}) {
		switch output.(string) {
		case "recorded":
			return !state.(bool), true
		case "duplicate":
			return state.(bool), true
		default: // unanswered: it took effect here
			return true, true
		}
	},
}

func nanoseconds(seconds float64) int64 { return int64(seconds * 1e9) }

func read(path string, histories map[string][]porcupine.Operation) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		var one line
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return fmt.Errorf("%s:%d: %w", path, number, err)
		}
		operation := porcupine.Operation{
			ClientId: len(histories[one.EventID]),
			Call:     nanoseconds(one.Sent),
			Output:   one.Note,
			Return:   nanoseconds(one.At),
		}
		switch one.Kind {
		case "acknowledged", "repeated":
		case "unanswered":
			operation.Return = math.MaxInt64
		default:
			continue
		}
		histories[one.EventID] = add(histories[one.EventID], operation)
	}
	return lines.Err()
}

// add appends an operation, of those without an answer only the one that was called first: wherever
// another one could have set the register, that one could have, and once it is set no more of them
// changes it. Without this a long outage has more orders of them than can be tried.
func add(history []porcupine.Operation, operation porcupine.Operation) []porcupine.Operation {
	if operation.Return != math.MaxInt64 {
		return append(history, operation)
	}
	for index, earlier := range history {
		if earlier.Return == math.MaxInt64 {
			history[index].Call = min(earlier.Call, operation.Call)
			return history
		}
	}
	return append(history, operation)
}

func main() {
	histories := map[string][]porcupine.Operation{}
	for _, path := range os.Args[1:] {
		if err := read(path, histories); err != nil {
			fmt.Fprintln(os.Stderr, "linearizability:", err)
			os.Exit(2)
		}
	}
	if len(histories) == 0 {
		fmt.Fprintln(os.Stderr, "linearizability: no operation in any record; give one")
		os.Exit(2)
	}
	operations, bad := 0, 0
	for id, history := range histories {
		operations += len(history)
		if result := porcupine.CheckOperationsTimeout(register, history, limit); result != porcupine.Ok {
			fmt.Printf("status %s: %s\n", id, result)
			bad++
		}
	}
	fmt.Printf("%d registers, %d operations, %d not linearizable\n", len(histories), operations, bad)
	if bad > 0 {
		os.Exit(1)
	}
}

// The function of tests/clients/test_interpreters.py in Go: a Runtime API loop on net/http.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

type event struct {
	Work                int
	File, Program, Host string
	Port                int
}

var sink [][]byte

// work keeps every processor busy for longer than the scheduler lets a goroutine run, makes garbage meanwhile, and waits
// in calls that take a thread each.
func work(rounds int) {
	var all sync.WaitGroup
	for i := 0; i < 2*runtime.NumCPU(); i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for end := time.Now().Add(time.Duration(rounds) * 30 * time.Millisecond); time.Now().Before(end); {
				for n := 0; n < 1<<20; n++ {
				}
			}
		}()
	}
	for i := 0; i < 20; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			syscall.Nanosleep(&syscall.Timespec{Nsec: 50e6}, nil)
		}()
	}
	for i := 0; i < rounds*4; i++ {
		sink = append(sink[:i%4], make([]byte, 4<<20))
		runtime.GC()
	}
	all.Wait()
}

func told(err error) string {
	var number syscall.Errno
	if err == nil {
		return "ok"
	}
	if errors.As(err, &number) {
		return strconv.Itoa(int(number))
	}
	return err.Error()
}

func handle(asked event) map[string]string {
	answer := map[string]string{}
	if asked.Work > 0 {
		work(asked.Work)
		answer["work"] = "ok"
	}
	if asked.File != "" {
		answer["file"] = told(os.WriteFile(asked.File, []byte("text"), 0o600))
	}
	if asked.Program != "" {
		answer["program"] = told(exec.Command(asked.Program).Run())
	}
	if asked.Host != "" {
		connection, err := net.Dial("tcp", net.JoinHostPort(asked.Host, strconv.Itoa(asked.Port)))
		if err == nil {
			_, err = io.ReadFull(connection, make([]byte, 5))
			connection.Close()
		}
		answer["connect"] = told(err)
	}
	return answer
}

func main() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		next, err := http.Get(api + "next")
		if err != nil {
			panic(err)
		}
		var asked event
		if err := json.NewDecoder(next.Body).Decode(&asked); err != nil {
			panic(err)
		}
		next.Body.Close()
		body, _ := json.Marshal(handle(asked))
		id := next.Header.Get("Lambda-Runtime-Aws-Request-Id")
		done, err := http.Post(api+id+"/response", "application/json", bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		io.Copy(io.Discard, done.Body)
		done.Body.Close()
	}
}

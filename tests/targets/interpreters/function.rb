# The function of tests/clients/test_interpreters.py in Ruby: a Runtime API loop on net/http.
require 'json'
require 'net/http'
require 'socket'

def told
  yield
  'ok'
rescue SystemCallError => e
  e.errno.to_s
rescue StandardError => e
  e.message
end

def work(rounds)
  threads = 4.times.map { Thread.new { rounds.times { ('x' * 100_000).each_char.map(&:ord).sum } } }
  rounds.times { GC.start }
  GC.compact if GC.respond_to?(:compact)
  threads.each(&:join)
end

def handle(event)
  answer = {}
  answer[:work] = told { work(event['work']) } if event['work']
  answer[:file] = told { File.write(event['file'], 'text') } if event['file']
  answer[:program] = told { Process.wait(Process.spawn(event['program'], out: File::NULL)) } if event['program']
  if event['host']
    answer[:connect] = told { TCPSocket.open(event['host'], event['port']) { |socket| socket.read(5) } }
  end
  answer
end

host, port = ENV.fetch('AWS_LAMBDA_RUNTIME_API').split(':')
Net::HTTP.start(host, port.to_i, read_timeout: nil) do |http|
  base = '/2018-06-01/runtime/invocation'
  loop do
    event = http.get("#{base}/next")
    http.post("#{base}/#{event['Lambda-Runtime-Aws-Request-Id']}/response", handle(JSON.parse(event.body)).to_json)
  end
end

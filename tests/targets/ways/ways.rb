# Ways of Ruby code to make a process, connect and write: `ways.rb FOLDER PORT`, like ways.py.
require 'json'
require 'socket'

folder, port = ARGV
CLOSED = "#{folder}/closed".freeze
TOUCH = '/usr/bin/touch'.freeze

def ended(result)
  raise 'failed' unless result
end

WAYS = {
  'fork' => lambda { |name|
    pid = fork do
      File.write("#{CLOSED}/#{name}", 'x')
      exit!
    end
    Process.wait(pid)
  },
  'system' => ->(name) { ended(system(TOUCH, "#{CLOSED}/#{name}")) },
  'backticks' => ->(name) { `#{TOUCH} #{CLOSED}/#{name}` },
  'Process.spawn' => ->(name) { Process.wait(Process.spawn(TOUCH, "#{CLOSED}/#{name}")) },
  'IO.popen' => ->(name) { IO.popen([TOUCH, "#{CLOSED}/#{name}"]).close },
  'TCPSocket' => ->(_) { TCPSocket.new('127.0.0.1', port.to_i).close },
  'UDPSocket' => ->(_) { UDPSocket.new.send('x', 0, '127.0.0.1', port.to_i) },
  'File.write' => ->(name) { File.write("#{CLOSED}/#{name}", 'x') },
  'Dir.mkdir' => ->(name) { Dir.mkdir("#{CLOSED}/#{name}") },
  'File.symlink' => ->(name) { File.symlink('x', "#{CLOSED}/#{name}") }
}.freeze

found = WAYS.each_with_index.to_h do |(said, way), number|
  way.call("ruby-#{number}")
  [said, 'happened']
rescue SystemCallError, RuntimeError => e
  [said, e.message]
end
puts JSON.generate(found)

#!/usr/bin/perl
# Call a hook with Perl's own means, for comparison with tests/lab/vzdump/command.py.
#
#   call_hook.pl HOOK LOG WORDS...
#
# Nothing of PVE is in here; it uses what PVE uses: an emptied %ENV, IPC::Open3, POSIX::pipe, a buffered
# file handle and an assignment to $0. It prints what the hook printed.
use strict;
use warnings;

use IO::File;
use IPC::Open3;
use POSIX;

my ($hook, $log, @words) = @ARGV;

$0 = "task UPID:lab";
my @pipe = POSIX::pipe();
my $file = IO::File->new(">$log") or die "cannot open $log: $!\n";
print $file "buffered before the fork\n";

my ($in, $out, $err) = (IO::File->new(), IO::File->new(), IO::File->new());
my $pid;
{
    local %ENV;
    $ENV{STOREID} = 'local';
    local $ENV{LC_ALL} = 'C';
    local $ENV{LVM_SUPPRESS_FD_WARNINGS} = '1';
    $pid = open3($in, $out, $err, $hook, @words);
}
close $in;
print $file "buffered after the fork\n";
print while <$out>;
print while <$err>;
waitpid($pid, 0);
exit($? >> 8);

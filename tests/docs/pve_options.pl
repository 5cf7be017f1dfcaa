# On a node: which commands, arguments and options Proxmox VE has, as its own Perl modules say. Words of the API on
# standard input, one a line, as pvesh takes them (`get /cluster/resources`). What it prints is made small by
# `python -m tests.docs.options`, and stands in pve_options.json.
use strict;
use warnings;
use JSON;
use PVE::JSONSchema;
use PVE::API2;

my %verbs = (get => 'GET', set => 'PUT', create => 'POST', delete => 'DELETE');
my (%commands, %formats, %api);

sub keys_of_formats {
    my ($properties) = @_;
    for my $name (keys %$properties) {
        my $format = $properties->{$name}->{format} // next;
        $format = PVE::JSONSchema::get_format($format) if !ref($format);
        $formats{$name}->{$_} = 1 for ref($format) eq 'HASH' ? keys %$format : ();
    }
}

sub read_command {
    my ($name, $class, $method, $arguments, $fixed) = @_;
    my $info = eval { $class->map_method_by_name($method) } or return warn "not there: $name\n";
    my $properties = $info->{parameters}->{properties} // {};
    keys_of_formats($properties);
    my @arguments = ref($arguments) ? @$arguments : grep { defined } $arguments;
    my %other = map { $_ => 1 } @arguments, keys %{ $fixed // {} };
    my %choices = map { $_ => $properties->{$_}->{enum} } grep { $properties->{$_}->{enum} } keys %$properties;
    $commands{$name} = {
        arguments => \@arguments,
        needed => 0 + grep({ !$properties->{$_}->{optional} } @arguments),
        options => [ sort grep { !$other{$_} && !/\d$/ } keys %$properties ],
        choices => \%choices,
    };
}

sub walk {
    my ($name, $found) = @_;
    return read_command($name, @$found) if ref($found) eq 'ARRAY';
    return $commands{$name} = { alias => $found->{alias} } if $found->{alias};
    walk("$name $_", $found->{$_}) for keys %$found;
}

for my $program (qw(qm pct vzdump pvesh pveum pvecm pvesm pvesr ha-manager pvenode pve8to9)) {
    my $module = 'PVE::CLI::' . $program =~ s/-/_/r;
    eval "require $module" or die $@;
    no strict 'refs';
    walk($program, ${"${module}::cmddef"});
}
while (my $word = <STDIN>) {
    chomp $word;
    my ($verb, $path) = split(/ /, $word);
    my $taken = {};
    my (undef, $info) = eval { PVE::API2->find_handler($verbs{$verb}, $path, $taken) };
    if (!$info) { warn "not there: $word\n"; next; }
    my $properties = $info->{parameters}->{properties} // {};
    keys_of_formats($properties);
    $api{$word} = [ sort grep { !exists $taken->{$_} && !/\d$/ } keys %$properties ];
}
$_ = [ sort keys %$_ ] for values %formats;
print JSON->new->canonical->pretty->encode({ commands => \%commands, formats => \%formats, api => \%api });

# fish completion for qcowfs. It asks the program's own --help, so that it knows each command and option there is.

# Reads a --help on stdin and prints one of its lists: commands, options or words.
function __qcowfs_read
    awk -v what=$argv[1] '
    /^Options for -o:/ { words = 1; next }
    /^[^ ]/ { words = 0 }
    what == "commands" && /^  qcowfs [a-z]/ { print $2 }
    what == "options" && !words && /^  -/ { count = split($1, names, ","); for (i = 1; i <= count; i++) print names[i] }
    what == "words" && words && /^  [a-z]/ {
      sub(/^  /, ""); gsub(/, */, ","); sub(/ .*/, "")
      count = split($0, names, ",")
      for (i = 1; i <= count; i++) {
        name = names[i]; sub(/=.*/, "=", name)
        if (name != names[i] && index(names[i], "|")) {
          choices = split(substr(names[i], length(name) + 1), choice, "|")
          for (j = 1; j <= choices; j++) print name choice[j]
        } else print name
      }
    }'
end

function __qcowfs_command
    set -l line (commandline -opc)
    if test (count $line) -gt 1; and contains -- $line[2] ($line[1] --help 2>/dev/null | __qcowfs_read commands)
        echo $line[2]
    end
end

function __qcowfs_complete
    set -l line (commandline -opc)
    set -l program $line[1]
    set -l command (__qcowfs_command)
    set -l current (commandline -ct)
    if test "$line[-1]" = -o; and contains -- "$command" '' mount
        set -l before (string match -r '.*,' -- $current)
        $program --help 2>/dev/null | __qcowfs_read words | while read -l word
            echo "$before$word"
        end
        return
    end
    switch "$command $line[-1]"
        case '* --compression'
            printf '%s\n' zlib zstd
        case '* --preallocation'
            printf '%s\n' off metadata falloc full
        case '* --repair'
            printf '%s\n' leaks all
        case '* --window'
            printf '%s\n' 4k 32k
        case '* --level'
            seq 9
        case '* --refcount-bits'
            printf '%s\n' 1 2 4 8 16 32 64
        case '* --backing-format' 'convert -f' 'compare -f' '* -F' '* -O'
            printf '%s\n' raw qcow2
        case '*'
            if string match -q -- '-*' $current
                $program $command --help 2>/dev/null | __qcowfs_read options
            else if test "$command $line[-1]" = 'snapshot snapshot'
                printf '%s\n' list create delete apply
            else
                test (count $line) -eq 1; and $program --help 2>/dev/null | __qcowfs_read commands
                __fish_complete_path $current
            end
    end
end

complete -c qcowfs -f -a '(__qcowfs_complete)'

#compdef qcowfs
# zsh completion for qcowfs. It asks the program's own --help, so that it knows each command and option there is.

# _qcowfs_read commands|options|words: reads a --help on stdin and prints one of its lists.
_qcowfs_read() {
  awk -v what="$1" '
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
}

_qcowfs() {
  local program=$words[1] previous=$words[CURRENT-1] current=$words[CURRENT] command= before=
  local -a commands
  commands=(${(f)"$($program --help 2>/dev/null | _qcowfs_read commands)"})
  ((CURRENT > 2)) && (($commands[(Ie)$words[2]])) && command=$words[2]

  if [[ $previous == -o && ( -z $command || $command == mount ) ]]; then
    [[ $current == *,* ]] && before=${current%,*},
    compadd -S '' -p "$before" -- ${(f)"$($program --help 2>/dev/null | _qcowfs_read words)"}
    return
  fi
  case "$command $previous" in
    *' --compression') compadd -- zlib zstd ;;
    *' --preallocation') compadd -- off metadata falloc full ;;
    *' --repair') compadd -- leaks all ;;
    *' --window') compadd -- 4k 32k ;;
    *' --level') compadd -- 1 2 3 4 5 6 7 8 9 ;;
    *' --refcount-bits') compadd -- 1 2 4 8 16 32 64 ;;
    *' --backing-format' | 'convert -f' | 'compare -f' | *' -F' | *' -O') compadd -- raw qcow2 ;;
    *)
      if [[ $current == -* ]]; then
        compadd -- ${(f)"$($program ${command:+$command} --help 2>/dev/null | _qcowfs_read options)"}
      elif [[ "$command $previous" == 'snapshot snapshot' ]]; then
        compadd -- list create delete apply
      else
        ((CURRENT == 2)) && compadd -- $commands
        _files
      fi ;;
  esac
}

_qcowfs "$@"

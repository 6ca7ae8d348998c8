# bash completion for qcowfs. It asks the program's own --help, so that it knows each command and option there is.

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

# The values of an option that has a fixed set of them.
_qcowfs_values() {
  case "$1 $2" in
    *' --compression') echo zlib zstd ;;
    *' --preallocation') echo off metadata falloc full ;;
    *' --repair') echo leaks all ;;
    *' --window') echo 4k 32k ;;
    *' --level') echo 1 2 3 4 5 6 7 8 9 ;;
    *' --refcount-bits') echo 1 2 4 8 16 32 64 ;;
    *' --backing-format' | 'convert -f' | 'compare -f' | *' -F' | *' -O') echo raw qcow2 ;;
  esac
}

_qcowfs() {
  local cur prev words cword
  _init_completion -n = || return
  local program=${words[0]} command= list values
  if ((cword > 1)) && "$program" --help 2>/dev/null | _qcowfs_read commands | grep -qxF -e "${words[1]}"; then
    command=${words[1]}
  fi

  if [[ $prev == -o && ( -z $command || $command == mount ) ]]; then
    local before=
    [[ $cur == *,* ]] && before=${cur%,*},
    list=$("$program" --help 2>/dev/null | _qcowfs_read words)
    mapfile -t COMPREPLY < <(compgen -P "$before" -W "$list" -- "${cur##*,}")
    compopt -o nospace
    return
  fi
  values=$(_qcowfs_values "$command" "$prev")
  if [[ $values ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$values" -- "$cur")
  elif [[ $cur == -* ]]; then
    list=$("$program" ${command:+"$command"} --help 2>/dev/null | _qcowfs_read options)
    mapfile -t COMPREPLY < <(compgen -W "$list" -- "$cur")
  else
    _filedir
    if ((cword == 1)); then
      list=$("$program" --help 2>/dev/null | _qcowfs_read commands)
      mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -W "$list" -- "$cur")
    elif ((cword == 2)) && [[ $command == snapshot ]]; then
      mapfile -t COMPREPLY < <(compgen -W "list create delete apply" -- "$cur")
    fi
  fi
} && complete -F _qcowfs qcowfs

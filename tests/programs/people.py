import persist
from pbase import pbase

class person(pbase):
    def __init__(self, name="", age=0):
        pbase.__init__(self)
        self.name = name
        self.age = age
    def printAge(self):
        print("<p>" + self.name + " is " + str(self.age) + " years old</p>")

root = persist.root()
root.lockExcl()
if not root.has_key('Joe'):   # first time through
    root['Joe'] = person('Joe', 27)
if not root.has_key('John'):
    root['John'] = person("John", 29)
# on later passes we retrieve the objects stored on the first pass
print("Content-type: text/html\n")
root['Joe'].printAge()
root['John'].printAge()
root.unlock()
